// Answers / with a greeting: gilliam config GREETING=hello changes it.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		greeting := os.Getenv("GREETING")
		if greeting == "" {
			greeting = "Hello"
		}
		fmt.Fprintf(w, "%s from Go\n", greeting)
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
