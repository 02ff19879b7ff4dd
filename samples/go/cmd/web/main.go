// A web process in Go: an ordinary net/http server.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		greeting := os.Getenv("GREETING")
		if greeting == "" {
			greeting = "Hello"
		}
		fmt.Fprintf(w, "%s from Go\n", greeting)
	})
	http.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		if _, err := io.Copy(w, r.Body); err != nil {
			log.Print(err)
		}
	})
	http.HandleFunc("GET /sleep", func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		time.Sleep(50 * time.Millisecond)
		fmt.Fprintln(w, time.Since(start) >= 50*time.Millisecond)
	})
	http.HandleFunc("GET /panic", func(w http.ResponseWriter, r *http.Request) { panic("as asked") })
	http.HandleFunc("GET /fetch", func(w http.ResponseWriter, r *http.Request) {
		answer, err := http.Get(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		io.Copy(w, answer.Body)
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
