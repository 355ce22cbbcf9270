package config

import (
	"net"
	"slices"
	"strings"

	"nearside/proxy"
	"nearside/proxy/config/json5"
	"nearside/upstream"
)

// wakeFields are the keys of proxy.providers.<id>.wake.
func wakeFields() []field {
	d, dur, durOrZero := upstream.DefaultWake(), &shape{kind: span}, &shape{kind: span, zero: true}
	return []field{
		ours("mac", textLike(wrongMAC), "", "The address of the box's network card. With it a near provider whose box does not answer is woken before another target is tried (docs/warm.md)."),
		ours("address", textLike(wrongListen), `"`+d.Address+`"`, "Where the packet goes: the broadcast address of the box's network, such as 192.168.1.255:9, where the default does not reach it."),
		ours("wait", durOrZero, inSeconds(d.Wait), "How long the box is waited for, from the packet on; 0 to go on at once and find it awake later."),
		ours("every", dur, inSeconds(d.Every), "The least time between two packets; no shorter than wait."),
	}
}

// warmFields are the keys of proxy.models.<ref>.warm.
func warmFields() []field {
	d, dur := proxy.DefaultWarm(), &shape{kind: span}
	when := oneOf("start", "knock", "schedule")
	return []field{
		ours("at", either(when, listOf(when)), "", "When a near model is loaded ahead of requests: at the start of the proxy, at a knock (somebody lists the models, or asks for a chain that it is in), or throughout its schedule. One of them or a list (docs/warm.md)."),
		ours("schedule", either(textLike(wrongHours), listOf(textLike(wrongHours))), "", `The hours for at: "schedule", in the time zone of the process: "mon-fri 08:00-18:00", "22:00-06:00".`),
		ours("keep", &shape{kind: span, zero: true}, inSeconds(d.Keep), "How long it stays loaded after a start or a knock, and after it was last asked; 0 for as long as the proxy runs."),
		ours("every", dur, inSeconds(d.Every), "How often it is looked after meanwhile. A server that does not tell what it has loaded gets a request for one token as often."),
		ours("load", dur, inSeconds(d.Load), "The longest a load may take."),
	}
}

func wrongMAC(text string) string {
	if hw, err := net.ParseMAC(strings.TrimSpace(text)); err != nil || len(hw) != 6 {
		return "must be the address of an Ethernet card, such as a4:83:e7:12:34:56"
	}
	return ""
}

func wrongHours(text string) string {
	if _, err := proxy.ParseHours(text); err != nil {
		return "must be hours such as 08:00-18:00, mon-fri 08:00-18:00 or sat,sun 10:00-12:30"
	}
	return ""
}

// applyWake reads how a provider's box is woken.
func applyWake(own node, b *upstream.Config) {
	n := own.get("wake")
	if !n.get("mac").there() {
		return
	}
	b.Wake = upstream.DefaultWake()
	b.Wake.MAC = strings.TrimSpace(n.get("mac").text())
	n.setText("address", &b.Wake.Address)
	n.setSpan("wait", &b.Wake.Wait)
	n.setSpan("every", &b.Wake.Every)
	if !n.get("everySeconds").there() && !n.get("everyMs").there() {
		b.Wake.Every = max(b.Wake.Every, b.Wake.Wait)
	}
}

// checkWake checks proxy.providers.<id>.wake.
func (l *loader) checkWake(own node, b *upstream.Config) {
	n := own.get("wake")
	switch {
	case !n.there():
	case !n.get("mac").there():
		l.at(n.pos(), join(n.path, "mac"), "is missing")
	case !b.Near:
		l.at(n.pos(), n.path, "is for near providers: nobody's hosted machine is woken")
	case b.Wake.Every < b.Wake.Wait:
		l.at(n.pos(), n.path, "every (%s) is shorter than wait (%s)", b.Wake.Every, b.Wake.Wait)
	}
}

// warm reads proxy.models.<ref>.warm.
func (l *loader) warm(ref string, n node) {
	if !n.there() || n.v.Kind != json5.Object {
		return
	}
	w := proxy.DefaultWarm()
	whens, hours := someTexts(n.get("at")), someTexts(n.get("schedule"))
	for _, text := range hours {
		if h, err := proxy.ParseHours(text); err == nil {
			w.Hours = append(w.Hours, h)
		}
	}
	w.Start, w.Knock = slices.Contains(whens, "start"), slices.Contains(whens, "knock")
	scheduled := slices.Contains(whens, "schedule")
	n.setSpan("keep", &w.Keep)
	n.setSpan("every", &w.Every)
	n.setSpan("load", &w.Load)
	provider, _, _ := strings.Cut(ref, "/")
	p := l.providerCalled(provider)
	switch {
	case len(whens) == 0:
		l.at(n.pos(), join(n.path, "at"), "is missing: start, knock or schedule")
	case scheduled && len(hours) == 0:
		l.at(n.pos(), join(n.path, "schedule"), "is missing: the hours in which the model is kept warm")
	case !scheduled && len(hours) > 0:
		l.at(n.get("schedule").pos(), join(n.path, "schedule"), "needs \"schedule\" in at")
	case p != nil && !p.Near:
		l.at(n.pos(), n.path, "is for near models: a hosted one is always loaded, and every token costs")
	}
	if l.cfg.Proxy.Warm == nil {
		l.cfg.Proxy.Warm = map[string]proxy.Warm{}
	}
	l.cfg.Proxy.Warm[ref] = w
}

// someTexts reads one text, or a list of them.
func someTexts(n node) []string {
	if text := n.text(); text != "" {
		return []string{text}
	}
	return texts(n)
}
