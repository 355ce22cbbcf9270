package command

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"nearside/proxy"
)

// notify tells systemd how the service is, as sd_notify does; without a manager
// that wants to know it does nothing.
func notify(env *Env, state string) {
	at := env.Getenv("NOTIFY_SOCKET")
	if at == "" {
		return
	}
	// A name that begins with @ is an abstract one: package net knows that.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		return // who manages us will notice
	}
	defer c.Close()
	_, _ = io.WriteString(c, state)
}

// watchdog tells systemd that the service lives, twice in each of its periods, for
// as long as somebody answers on its own address, until ctx ends.
func watchdog(ctx context.Context, env *Env, cfg proxy.Config, addr string) {
	micros, err := strconv.ParseInt(env.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || micros <= 0 {
		return
	}
	cfg.Listen = addr
	base, insecure, err := listensAt(&cfg)
	if err != nil {
		return
	}
	every := max(time.Duration(micros)*time.Microsecond/2, time.Millisecond)
	client := directClient(insecure)
	defer client.CloseIdleConnections()
	client.Timeout = every
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if answers(client, base+"/healthz") {
			notify(env, "WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answers says whether somebody is at work behind an address: also one that has no
// room for us, or wants a certificate that we do not have.
func answers(client *http.Client, url string) bool {
	resp, err := client.Get(url)
	if err != nil {
		var late net.Error
		return !(errors.As(err, &late) && late.Timeout()) && !errors.Is(err, syscall.ECONNREFUSED)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	return true
}

// supervise tells systemd that the service is ready, and then that it lives.
func supervise(ctx context.Context, env *Env, cfg *proxy.Config, addr string, background *sync.WaitGroup) {
	if env.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	notify(env, "READY=1\nSTATUS=listens on "+addr)
	background.Go(func() { watchdog(ctx, env, *cfg, addr) })
}
