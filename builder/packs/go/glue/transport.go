package gilliam_glue

import (
	"fmt"
	"io"
	"net/http"

	"gilliam_glue/wasi_http_outgoing_handler"
	"gilliam_glue/wasi_http_types"
	"gilliam_glue/wit/types"
)

// transport sends requests through the platform, to hosts that allowed_outbound_hosts grants.
type transport struct{}

func (transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	out := wasi_http_types.MakeOutgoingRequest(toFields(r.Header))
	out.SetMethod(methodOf(r.Method))
	scheme := wasi_http_types.MakeSchemeHttps()
	if r.URL.Scheme == "http" {
		scheme = wasi_http_types.MakeSchemeHttp()
	}
	out.SetScheme(wit_types.Some(scheme))
	out.SetAuthority(wit_types.Some(r.URL.Host))
	out.SetPathWithQuery(wit_types.Some(r.URL.RequestURI()))
	body := out.Body().Ok()
	sent := wasi_http_outgoing_handler.Handle(out, wit_types.None[*wasi_http_types.RequestOptions]())
	if sent.IsErr() {
		return nil, failed(r, sent.Err())
	}
	if err := sendBody(r, body); err != nil {
		return nil, err
	}
	future := sent.Ok()
	defer future.Drop()
	ready := future.Subscribe()
	ready.Block()
	ready.Drop()
	answer := future.Get().Some().Ok()
	if answer.IsErr() {
		return nil, failed(r, answer.Err())
	}
	in := answer.Ok()
	status := int(in.Status())
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
		Header: fromFields(in.Headers()), Body: newBody(in.Consume().Ok()), Request: r,
	}, nil
}

func sendBody(r *http.Request, body *wasi_http_types.OutgoingBody) error {
	stream := body.Write().Ok()
	if r.Body != nil {
		piece := make([]byte, pieceBytes)
		for {
			count, err := r.Body.Read(piece)
			if failure := send(stream, piece[:count]); failure != nil {
				break // the answer says why
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	stream.Drop()
	wasi_http_types.OutgoingBodyFinish(body, wit_types.None[*wasi_http_types.Fields]())
	return nil
}

func methodOf(name string) wasi_http_types.Method {
	makers := []func() wasi_http_types.Method{
		wasi_http_types.MakeMethodGet, wasi_http_types.MakeMethodHead, wasi_http_types.MakeMethodPost,
		wasi_http_types.MakeMethodPut, wasi_http_types.MakeMethodDelete, wasi_http_types.MakeMethodConnect,
		wasi_http_types.MakeMethodOptions, wasi_http_types.MakeMethodTrace, wasi_http_types.MakeMethodPatch,
	}
	if name == "" {
		name = "GET"
	}
	for tag, known := range methods {
		if known == name {
			return makers[tag]()
		}
	}
	return wasi_http_types.MakeMethodOther(name)
}

func failed(r *http.Request, code wasi_http_types.ErrorCode) error {
	if code.Tag() == wasi_http_types.ErrorCode_HttpRequestDenied {
		return fmt.Errorf("%s is not in allowed_outbound_hosts", r.URL.Host)
	}
	return fmt.Errorf("request to %s failed (wasi:http error %d)", r.URL.Host, code.Tag())
}
