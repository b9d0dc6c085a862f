package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"
)

// poolHealth is what one poll of Envoy's admin interface said. It is swapped whole and never changed.
type poolHealth struct {
	localUp, remoteUp bool
	at                time.Time
}

type watcher struct {
	client        *http.Client
	url           string
	local, remote string
	staleAfter    time.Duration
	last          atomic.Pointer[poolHealth]
}

func newWatcher(admin, local, remote string, staleAfter time.Duration) *watcher {
	filter := fmt.Sprintf(`^cluster\.(%s|%s)\.membership_(healthy|degraded)$`, regexp.QuoteMeta(local), regexp.QuoteMeta(remote))
	return &watcher{
		client:     &http.Client{Timeout: time.Second},
		url:        admin + "/stats?format=json&type=Gauges&filter=" + url.QueryEscape(filter),
		local:      local,
		remote:     remote,
		staleAfter: staleAfter,
	}
}

// current is the health to decide by; nil where it is not known.
func (w *watcher) current() *poolHealth {
	health := w.last.Load()
	if health == nil || time.Since(health.at) > w.staleAfter {
		return nil
	}
	return health
}

func (w *watcher) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.poll(ctx)
		}
	}
}

// poll keeps the last good answer where there is no new one; it goes stale by itself.
func (w *watcher) poll(ctx context.Context) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return
	}
	response, err := w.client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	var answer struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	if response.StatusCode != http.StatusOK || json.NewDecoder(response.Body).Decode(&answer) != nil {
		return
	}
	servers := make(map[string]uint64, len(answer.Stats))
	for _, stat := range answer.Stats {
		servers[stat.Name] = stat.Value
	}
	isUp := func(cluster string) bool {
		prefix := "cluster." + cluster + ".membership_"
		return servers[prefix+"healthy"]+servers[prefix+"degraded"] > 0
	}
	w.last.Store(&poolHealth{localUp: isUp(w.local), remoteUp: isUp(w.remote), at: time.Now()})
}
