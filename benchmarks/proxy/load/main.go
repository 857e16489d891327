// Load for one HTTP proxy, and the upstream behind it; plain HTTP/1.1 on the loopback.
//
//	load upstream ADDRESS
//	load run ADDRESS SHAPE CONNECTIONS SECONDS RATE
//
// SHAPE is small (1 KB in, 0.8 KB out), large (64 KB both ways) or stream (1 KB in, 200 events out). RATE is in requests a second, spread
// evenly over the connections; 0 sends the next request once the last answer is whole. With a rate, latencies count from
// when a request was due, so that a proxy that stalls does not hide it. The result is one JSON object.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

const events = 200

func main() {
	if len(os.Args) == 3 && os.Args[1] == "upstream" {
		upstream(os.Args[2])
	} else if len(os.Args) == 7 && os.Args[1] == "run" {
		run(os.Args[2], os.Args[3], number(os.Args[4]), number(os.Args[5]), number(os.Args[6]))
	} else {
		fail("usage: load upstream ADDRESS | load run ADDRESS SHAPE CONNECTIONS SECONDS RATE")
	}
}

func upstream(address string) {
	small := append(append([]byte(`{"answer":"`), bytes.Repeat([]byte("a"), 787)...), '"', '}')
	large := append(append([]byte(`{"answer":"`), bytes.Repeat([]byte("a"), 65523)...), '"', '}')
	event := []byte(`data: {"choices":[{"delta":{"content":"token "}}]}` + "\n\n")
	answer := func(writer http.ResponseWriter, body []byte) {
		writer.Header().Set("Content-Type", "application/json")
		writer.Header().Set("Content-Length", strconv.Itoa(len(body)))
		writer.Write(body)
	}
	http.HandleFunc("/v1/small", func(writer http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		answer(writer, small)
	})
	http.HandleFunc("/v1/large", func(writer http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		answer(writer, large)
	})
	http.HandleFunc("/v1/stream", func(writer http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		writer.Header().Set("Content-Type", "text/event-stream")
		for i := 0; i < events; i++ {
			writer.Write(event)
			writer.(http.Flusher).Flush()
		}
	})
	fail(http.ListenAndServe(address, nil).Error())
}

type sample struct{ first, whole time.Duration }

type result struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Seconds  float64 `json:"seconds"`
	FirstP50 float64 `json:"first_p50_us"`
	FirstP99 float64 `json:"first_p99_us"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
}

func run(address, shape string, connections, seconds, rate int) {
	body := `{"messages":"` + string(bytes.Repeat([]byte("q"), map[string]int{"small": 1009, "large": 65521, "stream": 1009}[shape])) + `"}`
	request := []byte(fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Session-Id: %%08d\r\nContent-Length: %d\r\n\r\n%s", shape, address, len(body), body))
	samples, failed := make([][]sample, connections), make([]int, connections)
	began := time.Now()
	end := began.Add(time.Duration(seconds) * time.Second)
	var group sync.WaitGroup
	for i := 0; i < connections; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			connection, err := net.Dial("tcp", address)
			if err != nil {
				fail(err.Error())
			}
			defer connection.Close()
			reader := bufio.NewReaderSize(connection, 1<<16)
			interval := time.Duration(0)
			due := began
			if rate > 0 {
				interval = time.Second * time.Duration(connections) / time.Duration(rate)
				due = began.Add(interval * time.Duration(i) / time.Duration(connections))
			}
			for n := 0; ; n++ {
				if rate > 0 {
					time.Sleep(time.Until(due))
				} else {
					due = time.Now()
				}
				if due.After(end) {
					return
				}
				if _, err = connection.Write(fill(request, i*1000000+n)); err != nil {
					fail(err.Error())
				}
				first, ok := read(reader)
				if !ok {
					failed[i]++
				}
				samples[i] = append(samples[i], sample{first.Sub(due), time.Since(due)})
				due = due.Add(interval)
			}
		}(i)
	}
	group.Wait()
	report(samples, failed, time.Since(began))
}

func fill(template []byte, session int) []byte {
	return bytes.Replace(template, []byte("%08d"), []byte(fmt.Sprintf("%08d", session)), 1)
}

func read(reader *bufio.Reader) (time.Time, bool) {
	if _, err := reader.Peek(1); err != nil {
		fail(err.Error())
	}
	first := time.Now()
	answer, err := http.ReadResponse(reader, &http.Request{Method: "POST"})
	if err != nil {
		fail(err.Error())
	}
	size, err := io.Copy(io.Discard, answer.Body)
	return first, err == nil && answer.StatusCode == 200 && size > 100
}

func report(samples [][]sample, failed []int, took time.Duration) {
	var first, whole []float64
	found := result{Seconds: took.Seconds()}
	for i := range samples {
		found.Failed += failed[i]
		for _, s := range samples[i] {
			first = append(first, float64(s.first.Nanoseconds())/1000)
			whole = append(whole, float64(s.whole.Nanoseconds())/1000)
		}
	}
	sort.Float64s(first)
	sort.Float64s(whole)
	found.Requests = len(whole)
	found.FirstP50, found.FirstP99 = quantile(first, 0.5), quantile(first, 0.99)
	found.P50, found.P99 = quantile(whole, 0.5), quantile(whole, 0.99)
	json.NewEncoder(os.Stdout).Encode(found)
}

func quantile(sorted []float64, q float64) float64 {
	return sorted[int(q*float64(len(sorted)-1))]
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fail(text + " is no number")
	}
	return value
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "load: "+text)
	os.Exit(1)
}
