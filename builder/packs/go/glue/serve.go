// Package gilliam_glue answers the platform's requests with the handler of a program's own net/http server.
//
// The program runs as it was written up to the point where it would serve; the build has net/http call Serve there.
package gilliam_glue

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"gilliam_glue/wasi_http_types"
	"gilliam_glue/wasi_io_streams"
	"gilliam_glue/wit/types"
)

// One piece of a body that is read or written.
const pieceBytes = 64 << 10

var (
	serving = make(chan *http.Server)
	server  *http.Server
)

func init() {
	http.GilliamServe = func(s *http.Server) error {
		serving <- s
		select {} // a program that serves does not come back from it
	}
	http.DefaultTransport = transport{}
	http.DefaultClient.Transport = transport{}
}

// Handle answers one request; the first one starts the program.
func Handle(request, out int32, main func()) {
	if server == nil {
		ended := make(chan struct{})
		go func() {
			main()
			close(ended)
		}()
		select {
		case server = <-serving:
		case <-ended:
			fmt.Fprintln(os.Stderr, "main ended without http.ListenAndServe")
			os.Exit(1)
		}
	}
	in := wasi_http_types.IncomingRequestFromOwnHandle(request)
	w := &writer{out: wasi_http_types.ResponseOutparamFromOwnHandle(out), header: http.Header{}}
	r, err := newRequest(in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	} else {
		answer(w, r)
	}
	w.finish()
}

func answer(w *writer, r *http.Request) {
	defer func() {
		if failure := recover(); failure != nil && failure != http.ErrAbortHandler {
			fmt.Fprintf(os.Stderr, "panic serving %s %s: %v\n%s", r.Method, r.URL.Path, failure, debug.Stack())
			if !w.begun {
				http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			}
		}
	}()
	handler := server.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	handler.ServeHTTP(w, r)
}

func newRequest(in *wasi_http_types.IncomingRequest) (*http.Request, error) {
	target := in.PathWithQuery().SomeOr("/")
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	header := fromFields(in.Headers())
	r := &http.Request{
		Method: methodName(in.Method()), URL: parsed, RequestURI: target,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Host: in.Authority().SomeOr(header.Get("Host")), ContentLength: -1, Body: http.NoBody,
		RemoteAddr: strings.TrimSpace(strings.Split(header.Get("X-Forwarded-For"), ",")[0]),
	}
	header.Del("Host")
	if length, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil {
		r.ContentLength = length
	}
	if consumed := in.Consume(); consumed.IsOk() {
		r.Body = newBody(consumed.Ok())
	}
	return r.WithContext(context.WithValue(context.Background(), http.ServerContextKey, server)), nil
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func methodName(method wasi_http_types.Method) string {
	if int(method.Tag()) < len(methods) {
		return methods[method.Tag()]
	}
	return method.Other()
}

func fromFields(fields *wasi_http_types.Fields) http.Header {
	header := http.Header{}
	for _, entry := range fields.Entries() {
		header.Add(entry.F0, string(entry.F1))
	}
	fields.Drop()
	return header
}

func toFields(header http.Header) *wasi_http_types.Fields {
	fields := wasi_http_types.MakeFields()
	for name, values := range header {
		for _, value := range values {
			// What the platform sets itself, such as Connection, is refused and left out.
			fields.Append(strings.ToLower(name), []byte(value))
		}
	}
	return fields
}

// body is what somebody else sends.
type body struct {
	of     *wasi_http_types.IncomingBody
	stream *wasi_io_streams.InputStream
	rest   []byte
	end    error
}

func newBody(of *wasi_http_types.IncomingBody) io.ReadCloser {
	return &body{of: of, stream: of.Stream().Ok()}
}

func (b *body) Read(into []byte) (int, error) {
	for len(b.rest) == 0 && b.end == nil && len(into) > 0 {
		read := b.stream.BlockingRead(pieceBytes)
		if read.IsOk() {
			b.rest = read.Ok()
		} else if failure := read.Err(); failure.Tag() == wasi_io_streams.StreamError_Closed {
			b.end = io.EOF
		} else {
			b.end = io.ErrUnexpectedEOF
		}
	}
	if len(b.rest) == 0 {
		return 0, b.end
	}
	count := copy(into, b.rest)
	b.rest = b.rest[count:]
	return count, nil
}

func (b *body) Close() error {
	if b.stream != nil {
		b.stream.Drop()
		b.of.Drop()
		b.stream, b.rest, b.end = nil, nil, http.ErrBodyReadAfterClose
	}
	return nil
}

// writer is the answer.
type writer struct {
	out    *wasi_http_types.ResponseOutparam
	header http.Header
	status int
	begun  bool
	buffer []byte
	body   *wasi_http_types.OutgoingBody
	stream *wasi_io_streams.OutputStream
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *writer) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.header.Get("Content-Type") == "" && !w.begun {
		w.header.Set("Content-Type", http.DetectContentType(data))
	}
	if !w.begun && len(w.buffer)+len(data) <= pieceBytes {
		w.buffer = append(w.buffer, data...)
		return len(data), nil
	}
	if err := w.begin(); err != nil {
		return 0, err
	}
	return len(data), send(w.stream, data)
}

// Flush sends what was written so far.
func (w *writer) Flush() {
	w.WriteHeader(http.StatusOK)
	if w.begin() == nil {
		w.stream.BlockingFlush()
	}
}

func (w *writer) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	response := wasi_http_types.MakeOutgoingResponse(toFields(w.header))
	if response.SetStatusCode(uint16(w.status)).IsErr() {
		panic(fmt.Sprintf("invalid WriteHeader code %v", w.status))
	}
	w.body = response.Body().Ok()
	w.stream = w.body.Write().Ok()
	wasi_http_types.ResponseOutparamSet(w.out,
		wit_types.Ok[*wasi_http_types.OutgoingResponse, wasi_http_types.ErrorCode](response))
	return send(w.stream, w.buffer)
}

func (w *writer) finish() {
	w.WriteHeader(http.StatusOK)
	if !w.begun && w.header.Get("Content-Length") == "" && w.status != 204 && w.status != 304 {
		w.header.Set("Content-Length", strconv.Itoa(len(w.buffer)))
	}
	if w.begin() == nil {
		w.stream.Drop()
		wasi_http_types.OutgoingBodyFinish(w.body, wit_types.None[*wasi_http_types.Fields]())
	}
}

// send hands bytes over as they are taken.
func send(stream *wasi_io_streams.OutputStream, data []byte) error {
	for len(data) > 0 {
		room := stream.CheckWrite()
		if room.IsErr() {
			return io.ErrClosedPipe
		}
		count := min(uint64(len(data)), room.Ok())
		if count == 0 {
			ready := stream.Subscribe()
			ready.Block()
			ready.Drop()
			continue
		}
		if stream.Write(data[:count]).IsErr() {
			return io.ErrClosedPipe
		}
		data = data[count:]
	}
	return nil
}
