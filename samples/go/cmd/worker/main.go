// A worker in Go: counts, once every so many seconds as its flag says.
package main

import (
	"flag"
	"log"
	"time"
)

func main() {
	every := flag.Duration("every", 5*time.Second, "how often it counts")
	flag.Parse()
	log.SetFlags(0)
	for count := 1; ; count++ {
		log.Printf("count %d", count)
		time.Sleep(*every)
	}
}
