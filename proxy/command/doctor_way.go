package command

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/upstream"
)

const (
	dnsSlow  = 300 * time.Millisecond
	skewWarn = 30 * time.Second
)

// way says how the way to a provider is, rung by rung, and whether it can be asked.
func (d *doctor) way(of string, p *catalog.Provider, cfg upstream.Config, e *upstream.Examination) bool {
	say := func(check, level, text, fix string) {
		d.say(finding{Area: "backend", Of: of, Check: check, Level: level, Text: cfg.Mask(text), Fix: fix})
	}
	if e.Via {
		say("proxy", levelNote, "requests go through request.proxy, which looks names up and connects", "")
	} else if !d.reach(say, p, cfg, e) {
		return false
	}
	if f := &e.Found; f.Err != nil || e.Status == 0 && f.State == "" {
		text := "it does not answer"
		if f.Err != nil {
			text = f.Err.Error()
		}
		say("HTTP", levelFail, text+": what listens there speaks no HTTP, or is stuck: see the server's own log", "")
		return false
	}
	say("HTTP", levelPass, fmt.Sprintf("it answers (status %d, %s)", e.Status, took(e.Took)), "")
	if e.Skew.Abs() > skewWarn {
		say("clock", levelWarn, fmt.Sprintf("its clock and this machine's are %s apart: certificates, Retry-After and signed requests go wrong", e.Skew.Abs().Round(time.Second)), "sudo timedatectl set-ntp true")
	} else if !e.Date.IsZero() {
		say("clock", levelPass, "its clock agrees with this machine's", "")
	}
	switch f := &e.Found; f.State {
	case upstream.StateReady, upstream.StateAsleep, upstream.StateLoading:
		level, text := levelPass, fmt.Sprintf("lists %s", count(len(f.Models), "model"))
		if f.Detail != "" {
			text += "; " + f.Detail
		}
		say("model list", level, text, "")
		return true
	default:
		fix := ""
		switch {
		case e.Status == 401 || e.Status == 403:
			fix = setProvider(p.ID, "apiKey", "${"+strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(p.ID))+"_API_KEY}")
		case strings.Contains(f.Detail, "/v1 in "):
			fix = setProvider(p.ID, "baseUrl", strings.TrimRight(cfg.BaseURL, "/")+"/v1")
		}
		say("model list", levelFail, f.Detail, fix)
		return false
	}
}

// reach tells of name, policy, connection and TLS.
func (d *doctor) reach(say func(check, level, text, fix string), p *catalog.Provider, cfg upstream.Config, e *upstream.Examination) bool {
	switch {
	case e.Refused != nil:
		fix := ""
		var refused *upstream.AddressError
		if errors.As(e.Refused, &refused) && strings.HasSuffix(refused.Setting, "allowPrivateNetwork") {
			fix = setProvider(p.ID, "request.allowPrivateNetwork", "true")
		} else if errors.As(e.Refused, &refused) && strings.HasSuffix(refused.Setting, ".near") {
			fix = "nearside config set " + shell(belowID("proxy.providers", p.ID)+"near") + " true"
		}
		say("address policy", levelFail, e.Refused.Error(), fix)
		return false
	case e.DNSErr != nil:
		text := e.DNSErr.Error() + ": the name is not known here"
		if strings.HasSuffix(e.Host, ".local") {
			text += "; .local names are told by the box itself (mDNS), which may sleep or be in another network"
		}
		fix := ""
		if p.Near && cfg.Wake.MAC == "" {
			fix = setProvider(p.ID, "baseUrl", "http://<its address>:"+e.Port+"/v1")
		}
		say("name", levelFail, text, fix)
		return false
	}
	if !e.Literal {
		level, text := levelPass, fmt.Sprintf("%s is %s (%s)", e.Host, addresses(e.Addresses), took(e.DNSTook))
		if e.DNSTook > dnsSlow {
			level, text = levelWarn, text+": names are slow to be looked up, and each new connection waits for it"
		}
		say("name", level, text, "")
	}
	say("address policy", levelPass, "it may be called: "+where(p, e), "")
	if e.TCPErr != nil {
		text, fix := e.TCPErr.Error(), ""
		switch {
		case e.Loopback():
			text += ": the server is not running, or listens elsewhere"
		case cfg.Wake.MAC != "":
			text += ": it sleeps, perhaps; a request would wake it (proxy.providers." + p.ID + ".wake)"
		case p.Near:
			text += ": the box is off or asleep, its firewall closes the port, its server listens on its own loopback only (LM Studio: Serve on Local Network; Ollama: OLLAMA_HOST=0.0.0.0), or macOS has not been asked for Local Network"
			fix = "nearside config set proxy.providers " + shell(fmt.Sprintf(`{%q:{"wake":{"mac":"<of its network card>"}}}`, p.ID)) + " --strict-json --merge"
		}
		say("connection", levelFail, text, fix)
		return false
	}
	say("connection", levelPass, "port "+e.Port+" takes connections ("+took(e.TCPTook)+")", "")
	if !e.Secure {
		if !p.Near {
			say("TLS", levelWarn, "http:// to a hosted provider: the key and all that is said can be read on the way", setProvider(p.ID, "baseUrl", "https"+strings.TrimPrefix(cfg.BaseURL, "http")))
		}
		return true
	}
	if e.TLSErr != nil {
		text, fix := tlsTrouble(e.TLSErr, p.ID)
		say("TLS", levelFail, text, fix)
		return false
	}
	level, text := expiry(e.TLS.PeerCertificates[0], time.Now())
	say("TLS", level, text, "")
	return true
}

// tlsTrouble says what a failed handshake means, and what mends it.
func tlsTrouble(err error, id string) (text, fix string) {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return err.Error() + ": the certificate is for another name; write that one in baseUrl, or", setProvider(id, "request.tls.serverName", "<a name in it>")
	case errors.As(err, &authority):
		return err.Error() + ": nobody that this machine trusts has signed it, or the server leaves out the certificates between", setProvider(id, "request.tls.ca", "<the authority's certificate>.pem")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return err.Error() + ": it ran out, or this machine's clock is wrong", ""
	}
	return err.Error(), ""
}

func addresses(all []netip.Addr) string {
	var texts []string
	for i, a := range all {
		if i == 3 {
			texts = append(texts, "…")
			break
		}
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

func where(p *catalog.Provider, e *upstream.Examination) string {
	switch {
	case e.Loopback():
		return "near, on this machine"
	case p.Near:
		return "near"
	}
	return "far"
}

// software says what the server is, and of it what the page on local models warns
// of.
func (d *doctor) software(of string, p *catalog.Provider, e *upstream.Examination) {
	f := &e.Found
	if !p.Near {
		return
	}
	say := func(check, level, text, fix string) {
		d.say(finding{Area: "backend", Of: of, Check: check, Level: level, Text: text, Fix: fix})
	}
	kind := string(f.Kind)
	if kind == "" {
		kind = "unknown: its answers do not tell, and no profile mends its ways"
	}
	if f.Version != "" {
		kind += " " + f.Version
	}
	fix := ""
	if f.Kind == catalog.KindUnknown {
		fix = "nearside config set proxy.providers " + shell(fmt.Sprintf(`{%q:{"kind":"<lmstudio, ollama, mlx, vllm, …>"}}`, p.ID)) + " --strict-json --merge"
	}
	say("software", levelNote, kind, fix)
	if f.Simulated {
		say("answers", levelNote, "they are SIMULATED", "")
	}
}
