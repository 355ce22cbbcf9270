package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/access"
	"nearside/proxy/config/json5"
)

// settings composes what stands under "proxy", apart from its providers,
// chains and aliases.
func (l *loader) settings() {
	own, c := l.root.get("proxy"), proxy.Defaults()
	own.setText("listen", &c.Listen)
	c.Listen = strings.TrimSpace(c.Listen)
	if at := own.get("tls"); at.there() {
		if l.cfg.Certificate = l.certificate(at); l.cfg.Certificate != nil {
			c.TLSCert, c.TLSKey = l.file(at.get("cert").text()), l.file(at.get("key").text())
		}
		l.cfg.ClientCA = l.clientCA(at)
	}
	l.safety(own, &c)
	c.DataDir = l.dataDir()
	if at := own.get("dataDir"); at.there() {
		c.DataDir = l.file(at.text())
	}

	limits, m := own.get("limits"), &c.Limits
	limits.setWhole("bodyBytes", &m.BodyBytes)
	limits.setWhole("headerBytes", &m.HeaderBytes)
	if at := limits.get("inFlightBytes"); at.there() {
		m.InFlightBytes = int64(at.whole())
	}
	limits.setWhole("conns", &m.Conns)
	limits.setWhole("depth", &m.Depth)
	limits.setWhole("fields", &m.Fields)
	if m.InFlightBytes < int64(m.BodyBytes) {
		at := limits.get("inFlightBytes").orElse(limits.get("bodyBytes"))
		l.at(at.pos(), at.path, "inFlightBytes (%d) is less than bodyBytes (%d): the largest request could never be taken", m.InFlightBytes, m.BodyBytes)
	}

	client := own.get("client")
	client.setSpan("read", &c.Client.Read)
	client.setSpan("idle", &c.Client.Idle)
	client.setSpan("write", &c.Client.Write)
	client.setSpan("margin", &c.Client.Margin)
	client.setSpan("watchAfter", &c.Client.WatchAfter)
	own.get("heartbeat").setSpan("first", &c.Beat.First)
	own.get("heartbeat").setSpan("every", &c.Beat.Every)
	own.get("drain").setSpan("announce", &c.Drain.Announce)
	own.get("drain").setSpan("grace", &c.Drain.Grace)
	l.fallback(own.get("fallback"), &c.Fallback)
	l.balance(own.get("balance"), &c.Balance)
	queueSettings(own.get("queue"), &c.Queue)
	l.keySettings(own, &c)
	c.Policy = l.policy(own.get("policy"), c.Policy)
	if l.cfg.Keys = l.keys(own.get("keys")); len(l.cfg.Keys) > 0 {
		c.Keys = access.NewTable(l.cfg.Keys, false)
	}
	asked := own.get("access")
	asked.setText("auth", &c.Access.Auth)
	asked.setWhole("failuresPerMinute", &c.Access.Failures)
	asked.setWhole("reserveOutput", &c.Access.ReserveOutput)
	own.get("network").setSpan("offline", &c.Network.Offline)
	own.get("network").setSpan("offlineMax", &c.Network.OfflineMax)
	if c.Network.OfflineMax < c.Network.Offline {
		at := own.get("network").get("offlineMaxSeconds").orElse(own.get("network"))
		l.at(at.pos(), at.path, "offlineMax (%s) is shorter than offline (%s)", c.Network.OfflineMax, c.Network.Offline)
	}
	c.Lean = l.root.get("agents", "defaults", "experimental", "localModelLean").flag(false)
	own.get("context").setFlag("preflight", &c.Context.Preflight)
	in, inputs := &c.Inputs, own.get("inputs")
	inputs.setText("unsupportedImages", &in.UnsupportedImages)
	inputs.setFlag("fetchImages", &in.FetchImages)
	inputs.setFlag("fetchPrivate", &in.FetchPrivate)
	inputs.setWhole("fetchCount", &in.FetchCount)
	inputs.setWhole("fetchBytes", &in.FetchBytes)
	inputs.setSpan("fetch", &in.Fetch)
	r, resp := &c.Responses, own.get("responses")
	resp.setText("store", &r.Store)
	resp.setSpan("maxAge", &r.MaxAge)
	if at := resp.get("maxBytes"); at.there() {
		r.MaxBytes = int64(at.whole())
	}
	if at := resp.get("sealKey"); at.there() {
		r.SealKey = l.file(at.text())
	}
	resp.setText("systemMessages", &r.SystemMessages)
	resp.setText("reasoning", &r.Reasoning)
	resp.setWhole("background", &r.Background)
	resp.setWhole("backgroundQueue", &r.BackgroundQueue)
	resp.setWhole("backgroundBytes", &r.BackgroundBytes)
	resp.setFlag("webSocket", &r.WebSocket)
	resp.setWhole("sockets", &r.Sockets)
	resp.setSpan("socketFor", &r.SocketFor)
	resp.setWhole("socketQueue", &r.SocketQueue)
	resp.setWhole("socketBytes", &r.SocketBytes)
	account := own.get("ledger")
	account.setFlag("keep", &c.Ledger.Keep)
	account.setSpan("maxAge", &c.Ledger.MaxAge)
	if at := account.get("maxBytes"); at.there() {
		c.Ledger.MaxBytes = int64(at.whole())
	}
	account.setWhole("queue", &c.Ledger.Queue)
	account.setSpan("batch", &c.Ledger.Batch)
	if at := account.get("damaged"); at.there() {
		c.Ledger.Aside = at.text() == "aside"
	}
	account.setText("compareWith", &c.Ledger.CompareWith)
	l.capture(own.get("capture"), &c.Capture)
	l.dashboard(own.get("dashboard"), &c.Dashboard)
	own.setText("answerModel", &c.AnswerModel)
	own.setWhole("exchangesKept", &c.ExchangesKept)
	own.get("metrics").setWhole("keys", &c.MetricsKeys)
	l.traces(own.get("traces"), &c.Traces)
	own.setFlag("learning", &c.Learning)
	own.setWhole("learnedModels", &c.LearnedModels)
	l.root.get("agents", "defaults").setSpan("timeout", &c.ExchangeTotal)
	l.cfg.Proxy = c

	l.cfg.Log = Log{Level: logLevel, Format: logFormat, BufferBytes: logBufferBytes}
	own.get("log").setText("level", &l.cfg.Log.Level)
	own.get("log").setText("format", &l.cfg.Log.Format)
	own.get("log").setWhole("bufferBytes", &l.cfg.Log.BufferBytes)
	l.cfg.Simulate = own.get("simulate").flag(true)
	l.discovery(own.get("discovery"))
	l.cfg.MDNS = MDNS{Announce: own.get("mdns", "announce").flag(false), Name: own.get("mdns", "name").text(), Interface: own.get("mdns", "interface").text()}
}

func (l *loader) discovery(n node) {
	d := Discovery{Enabled: n.get("enabled").flag(true), Addresses: discoveryAddresses(), Every: discoveryEvery, Timeout: discoveryTimeout}
	n.setSpan("every", &d.Every)
	n.setSpan("timeout", &d.Timeout)
	if list := n.get("addresses"); list.there() {
		d.Addresses = nil
		for _, item := range list.items() {
			a := DiscoveryAddress{URL: item.text()}
			if item.v.Kind == json5.Object {
				a = DiscoveryAddress{URL: item.get("url").text(), Kind: catalog.Kind(item.get("kind").text())}
			}
			a.URL = strings.TrimRight(strings.TrimSpace(a.URL), "/")
			for _, other := range d.Addresses {
				if other.URL == a.URL {
					l.at(item.pos(), item.path, "%s is already in the list", a.URL)
				}
			}
			if catalog.PlaceOf(a.URL) == catalog.PlaceLinkLocal {
				l.at(item.pos(), item.path, "is a link-local or cloud metadata address, which is never called")
			}
			if a.Kind == "" {
				for _, usual := range discoveryAddresses() {
					if usual.URL == a.URL {
						a.Kind = usual.Kind
					}
				}
			}
			d.Addresses = append(d.Addresses, a)
		}
	}
	l.cfg.Discovery = d
}

// wrongBaseURL says what is wrong with a provider's address; empty for nothing.
// The address is not repeated: it may hold a credential.
func wrongBaseURL(text string) string {
	text = strings.TrimSpace(text)
	u, err := url.Parse(text)
	switch {
	case err == nil && u.Scheme != "http" && u.Scheme != "https" && u.Host != "",
		err == nil && u.Scheme != "" && u.Host == "" && u.Opaque == "":
		return "must start with http:// or https://"
	case !strings.Contains(text, "://"):
		return "must start with http:// or https://"
	case err != nil:
		return "is not an address"
	case u.Hostname() == "":
		return "has no host"
	case u.User != nil:
		return "must not hold a user or password; use apiKey or request.auth"
	case u.RawQuery != "" || u.ForceQuery:
		return "must not have a query"
	case u.Fragment != "":
		return "must not have a fragment"
	case !isPort(u.Port(), true):
		return "has a port that is none"
	}
	for _, end := range []string{"/chat/completions", "/responses", "/completions", "/models"} {
		if strings.HasSuffix(strings.TrimRight(u.Path, "/"), end) {
			return "must end before " + end + ", which is added to it"
		}
	}
	return ""
}

// wrongOrigin says what is wrong with an address to discover servers at.
func wrongOrigin(text string) string {
	if wrong := wrongBaseURL(text); wrong != "" {
		return wrong
	}
	if u, err := url.Parse(strings.TrimSpace(text)); err != nil || strings.Trim(u.Path, "/") != "" {
		return "must end after the port; the paths are added to it"
	}
	return ""
}

// wrongListen says what is wrong with an address to listen on.
func wrongListen(text string) string {
	host, port, err := net.SplitHostPort(strings.TrimSpace(text))
	if err != nil || port == "" || !isPort(port, false) {
		return "must be host:port, such as 127.0.0.1:4141 or [::1]:4141"
	}
	if strings.ContainsAny(host, " /*") {
		return "must be host:port, such as 127.0.0.1:4141 or [::1]:4141"
	}
	return ""
}

// isPort says whether text is a port; absent allows none.
func isPort(text string, absent bool) bool {
	if text == "" {
		return absent
	}
	n, err := strconv.Atoi(text)
	return err == nil && n >= 0 && n <= 65535 && (n > 0 || !absent)
}
