// A peer of the sidecar, for the benchmarks: the same decision as an ext_proc server on grpc-go and go-control-plane.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os/signal"
	"syscall"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	var site site
	listen := flag.String("listen", "127.0.0.1:9002", "where Envoy asks for decisions")
	admin := flag.String("admin", "http://127.0.0.1:9901", "Envoy's admin interface")
	interval := flag.Duration("poll-interval", 250*time.Millisecond, "how often Envoy is asked for its pools' health")
	staleAfter := flag.Duration("stale-after", 3*time.Second, "health is unknown without a good answer for so long")
	flag.StringVar(&site.statusURI, "status-uri", "/local_pool_status", "the status URI")
	flag.StringVar(&site.local.name, "site", "east", "this site")
	flag.StringVar(&site.local.cluster, "cluster", "local_pool", "this site's cluster in Envoy")
	flag.StringVar(&site.local.cookie, "cookie", "KVAAVROI", "this site's cookie")
	flag.StringVar(&site.remote.name, "remote-site", "west", "the other site")
	flag.StringVar(&site.remote.cluster, "remote-cluster", "remote_pool", "the other site's cluster in Envoy")
	flag.StringVar(&site.remote.cookie, "remote-cookie", "DDVHSLLQ", "the other site's cookie")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	watcher := newWatcher(*admin, site.local.cluster, site.remote.cluster, *staleAfter)
	watcher.poll(ctx)
	go watcher.run(ctx, *interval)

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	extproc.RegisterExternalProcessorServer(server, newProcessor(site, watcher))
	healthServer := health.NewServer()
	healthServer.SetServingStatus(extproc.ExternalProcessor_ServiceDesc.ServiceName, healthgrpc.HealthCheckResponse_SERVING)
	healthgrpc.RegisterHealthServer(server, healthServer)
	go func() {
		<-ctx.Done()
		healthServer.Shutdown()
		server.GracefulStop()
	}()
	log.Printf("deciding on %s", *listen)
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
