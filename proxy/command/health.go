package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"nearside/proxy"
	"nearside/proxy/config"
)

// Health asks a running proxy whether it is well.
type Health struct {
	ConfigFlag
	URL     string        `placeholder:"URL" help:"Where the proxy listens (http://127.0.0.1:4141). Without it: proxy.listen of the configuration."`
	Timeout time.Duration `default:"3s" help:"How long the answer may take."`

	operator bool             // what is asked is the operator's
	pair     *tls.Certificate // shown to a proxy that wants one
}

// Help teaches what health does.
func (Health) Help() string {
	return `For scripts and a container's HEALTHCHECK: asks /healthz of a running proxy.

	nearside health
	nearside health --url http://127.0.0.1:4141

Exit codes: 0 it is well; 1 it is not, or cannot be reached; 2 bad flags.`
}

// Run asks once.
func (c *Health) Run(env *Env) error {
	base, insecure, err := c.base(env)
	if err != nil {
		return err
	}
	ctx, stop := env.context()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	client := directClient(insecure, c.pair)
	defer client.CloseIdleConnections()
	at := base + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return usageError{fmt.Errorf("--url: %w", err)}
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: no answer within %v", at, c.Timeout)
		}
		return fmt.Errorf("%s: %w", at, inner(err))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", at, resp.Status)
	}
	fmt.Fprintf(env.Stdout, "%s is well\n", base)
	return nil
}

// base returns where the proxy is, and whether its certificate is taken on
// trust.
func (c *Health) base(env *Env) (base string, insecure bool, err error) {
	if c.URL != "" {
		base, err = gatewayURL(c.URL)
		return base, false, err
	}
	path, err := env.find(c.Config)
	if err != nil {
		return "", false, err
	}
	file, problems := config.Load(path, env.configOptions())
	cfg := file.Proxy
	if file.ClientCA != nil { // ours is of the same authority, where tls init made them
		c.pair = file.Certificate
	}
	if len(problems.Errors()) > 0 {
		// The running proxy keeps what it read before the file went bad. It is
		// not unwell because of the file.
		cfg = proxy.Defaults()
		fmt.Fprintf(env.Stderr, "nearside: %s has problems; asking at %s\n", path, cfg.Listen)
	}
	if c.operator {
		return operatorAt(&cfg)
	}
	return listensAt(&cfg)
}

// operatorAt is listensAt for the operator's endpoints, which may have an address
// of their own.
func operatorAt(cfg *proxy.Config) (base string, insecure bool, err error) {
	if cfg.Admin.Listen == "" {
		return listensAt(cfg)
	}
	own := *cfg
	own.Listen = cfg.Admin.Listen
	return listensAt(&own)
}

// listensAt returns where a proxy with this configuration is, and whether its
// certificate is taken on trust.
func listensAt(cfg *proxy.Config) (base string, insecure bool, err error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return "", false, usageError{fmt.Errorf("proxy.listen: %w", err)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		// The certificate is for the name that clients use, not for the
		// address on this machine that we ask at.
		scheme, insecure = "https", true
	}
	return scheme + "://" + net.JoinHostPort(host, port), insecure, nil
}

// gatewayURL returns a proxy's address without /v1 and a trailing slash.
func gatewayURL(text string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return "", usageError{fmt.Errorf("%q is not an address such as http://127.0.0.1:4141", text)}
	}
	return strings.TrimSuffix(strings.TrimRight(u.String(), "/"), "/v1"), nil
}

// directClient asks without any proxy of the environment: what it asks is a
// proxy of ours. It shows the first of pairs, if any is there, where it is asked for one.
func directClient(insecure bool, pairs ...*tls.Certificate) *http.Client {
	cfg := &tls.Config{InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}
	for _, p := range pairs {
		if p != nil {
			cfg.Certificates = append(cfg.Certificates, *p)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: cfg},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// inner returns an error of net/http without the address, which is said before.
func inner(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
