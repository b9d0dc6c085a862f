package main

import (
	"fmt"
	"io"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocconfig "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type processor struct {
	extproc.UnimplementedExternalProcessorServer
	site    site
	watcher *watcher
	// There are few replies, and a sent message is never changed: each is built once and shared.
	replies sync.Map
	expiry  *extproc.ProcessingResponse
}

func newProcessor(site site, watcher *watcher) *processor {
	expired := site.remote.cookie + "=; Path=/; Max-Age=0; HttpOnly"
	return &processor{
		site:    site,
		watcher: watcher,
		expiry: &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseHeaders{
			ResponseHeaders: &extproc.HeadersResponse{Response: &extproc.CommonResponse{
				HeaderMutation: setHeaders(appended("set-cookie", expired)),
			}},
		}},
	}
}

// Process answers one HTTP request's stream, and ends it with the last answer that is due.
func (p *processor) Process(stream extproc.ExternalProcessor_ProcessServer) error {
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch phase := message.GetRequest().(type) {
		case *extproc.ProcessingRequest_RequestHeaders:
			decision := p.site.decide(p.watcher.current(), p.site.read(phase.RequestHeaders.GetHeaders()))
			if err := stream.Send(p.reply(decision)); err != nil {
				return err
			}
			if !decision.expire {
				return nil
			}
		case *extproc.ProcessingRequest_ResponseHeaders:
			return stream.Send(p.onResponse(phase.ResponseHeaders.GetHeaders()))
		default:
			return status.Errorf(codes.InvalidArgument, "phase %T was not asked for", phase)
		}
	}
}

// onResponse expires the other site's cookie, unless nobody served the request.
func (p *processor) onResponse(headers *core.HeaderMap) *extproc.ProcessingResponse {
	var isError, fromServer, refused bool
	for _, header := range headers.GetHeaders() {
		switch header.GetKey() {
		case ":status":
			isError = string(header.GetRawValue()) == "503"
		case "x-envoy-upstream-service-time":
			fromServer = true
		case "x-site-refused":
			refused = true
		}
	}
	if isError && (refused || !fromServer) {
		return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseHeaders{
			ResponseHeaders: &extproc.HeadersResponse{},
		}}
	}
	return p.expiry
}

func (p *processor) reply(decision decision) *extproc.ProcessingResponse {
	if known, ok := p.replies.Load(decision); ok {
		return known.(*extproc.ProcessingResponse)
	}
	reply := p.build(decision)
	p.replies.Store(decision, reply)
	return reply
}

func (p *processor) build(decision decision) *extproc.ProcessingResponse {
	reply := &extproc.ProcessingResponse{DynamicMetadata: metadata(decision)}
	switch {
	case decision.reason == "status" && decision.up:
		reply.Response = immediate(200, "LOCAL POOL STATE: UP", "content-type", "text/html")
	case decision.reason == "status":
		reply.Response = immediate(503, "LOCAL POOL STATE: DOWN", "content-type", "text/html")
	case decision.reason == "refuse":
		text := fmt.Sprintf("Site %s does not serve this request now.\n", p.site.local.name)
		reply.Response = immediate(503, text, "x-site-refused", p.site.local.name)
	case decision.cluster == "":
		reply.Response = requestHeaders(&extproc.CommonResponse{
			HeaderMutation:  &extproc.HeaderMutation{RemoveHeaders: []string{"x-site-pool"}},
			ClearRouteCache: true,
		})
	default:
		reply.Response = requestHeaders(&extproc.CommonResponse{
			HeaderMutation:  setHeaders(replaced("x-site-pool", decision.cluster)),
			ClearRouteCache: true,
		})
	}
	if decision.expire {
		reply.ModeOverride = &extprocconfig.ProcessingMode{ResponseHeaderMode: extprocconfig.ProcessingMode_SEND}
	}
	return reply
}

func requestHeaders(response *extproc.CommonResponse) *extproc.ProcessingResponse_RequestHeaders {
	return &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: &extproc.HeadersResponse{Response: response}}
}

func immediate(code int32, body, header, value string) *extproc.ProcessingResponse_ImmediateResponse {
	return &extproc.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extproc.ImmediateResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(code)},
		Headers: setHeaders(replaced(header, value), replaced("cache-control", "no-store")),
		Body:    []byte(body),
	}}
}

func metadata(decision decision) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision": structpb.NewStringValue(decision.reason),
		"owner":    structpb.NewStringValue(decision.owner),
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"site_persistence": structpb.NewStructValue(&structpb.Struct{Fields: fields}),
	}}
}

func setHeaders(headers ...*core.HeaderValueOption) *extproc.HeaderMutation {
	return &extproc.HeaderMutation{SetHeaders: headers}
}

func replaced(key, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{Header: &core.HeaderValue{Key: key, RawValue: []byte(value)}}
}

// appended uses the deprecated field: it is the only one that Envoy's ext_proc honours.
func appended(key, value string) *core.HeaderValueOption {
	option := replaced(key, value)
	option.Append = wrapperspb.Bool(true)
	return option
}
