package main

import (
	"net/url"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

type pool struct{ name, cluster, cookie string }

type site struct {
	local, remote pool
	statusURI     string
}

type facts struct {
	isStatusURI, hasHop, hasLocalCookie, hasRemoteCookie bool
}

// decision names one of the few replies there are.
type decision struct {
	// local, forward, failover, adopt, refuse, status or unknown
	reason string
	owner  string
	// The cluster to send the request to; empty where the reason is not one to route.
	cluster string
	// Of the status URI.
	up bool
	// The remote site's cookie is to be expired by the response.
	expire bool
}

func (s *site) decide(health *poolHealth, request facts) decision {
	owner := s.owner(request)
	if request.isStatusURI {
		return decision{reason: "status", owner: owner, up: health != nil && health.localUp}
	}
	if health == nil {
		return decision{reason: "unknown", owner: owner}
	}
	if request.hasHop {
		if request.hasLocalCookie {
			owner = s.local.name
		}
		if !health.localUp {
			return decision{reason: "refuse", owner: owner}
		}
		return s.serveHere(owner, request)
	}
	if request.hasRemoteCookie && health.remoteUp {
		return decision{reason: "forward", owner: owner, cluster: s.remote.cluster}
	}
	if request.hasLocalCookie && health.localUp {
		owner = s.local.name
	}
	if health.localUp {
		return s.serveHere(owner, request)
	}
	if health.remoteUp {
		return decision{reason: "failover", owner: owner, cluster: s.remote.cluster}
	}
	return decision{reason: "local", owner: owner, cluster: s.local.cluster}
}

func (s *site) serveHere(owner string, request facts) decision {
	reason := "local"
	if owner == s.remote.name {
		reason = "adopt"
	}
	return decision{reason: reason, owner: owner, cluster: s.local.cluster, expire: request.hasRemoteCookie}
}

func (s *site) owner(request facts) string {
	switch {
	case request.hasRemoteCookie:
		return s.remote.name
	case request.hasLocalCookie:
		return s.local.name
	default:
		return "none"
	}
}

func (s *site) read(headers *core.HeaderMap) facts {
	var found facts
	for _, header := range headers.GetHeaders() {
		switch header.GetKey() {
		case ":path":
			found.isStatusURI = s.isStatusURI(string(header.GetRawValue()))
		case "cookie":
			s.readCookies(string(header.GetRawValue()), &found)
		case "x-site-hop":
			found.hasHop = true
		}
	}
	return found
}

func (s *site) isStatusURI(path string) bool {
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	if path == s.statusURI {
		return true
	}
	if strings.IndexByte(path, '%') < 0 {
		return false
	}
	decoded, err := url.PathUnescape(path)
	return err == nil && decoded == s.statusURI
}

func (s *site) readCookies(line string, found *facts) {
	for line != "" {
		var part string
		part, line, _ = strings.Cut(line, ";")
		name, _, hasValue := strings.Cut(strings.TrimLeft(part, " \t"), "=")
		if !hasValue {
			continue
		}
		switch name {
		case s.local.cookie:
			found.hasLocalCookie = true
		case s.remote.cookie:
			found.hasRemoteCookie = true
		}
	}
}
