// Command nearside is a local-first, OpenAI-compatible reverse proxy.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"nearside/proxy/command"
)

// version is set by the release build; a build from a clone says its commit.
var version = ""

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	stop, reload := make(chan struct{}, 2), make(chan struct{}, 1)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range signals {
			to := stop
			if s == syscall.SIGHUP {
				to = reload
			}
			select {
			case to <- struct{}{}:
			default:
			}
		}
	}()
	return command.Run(args, &command.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Lookup: os.LookupEnv, Environ: os.Environ,
		Serving: func() { signal.Ignore(syscall.SIGPIPE) }, // a log that nobody reads any more does not end the service
		Stop:    stop, Reload: reload, Version: versionText()})
}

func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return "dev"
}
