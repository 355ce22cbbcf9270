package config

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"nearside/proxy"
)

// safetyFields are the settings of who may come, and under which name.
func safetyFields() []field {
	return []field{
		ours("hosts", listOf(textLike(wrongHost)), "[]",
			"Further names and addresses by which clients may call the proxy: those of a reverse proxy, of a container, of DNS; *.lan means all below lan. Loopback names, the address that a connection came to and this machine's name (also with .local) are always right; requests under any other are refused, so that no web page gets here by a name of its own."),
		ours("cors", obj(
			ours("allowedOrigins", listOf(textLike(wrongPage)), "[]",
				"Origins of web pages and apps that may ask from a browser: https://chat.example.com, app://obsidian.md, vscode-webview://* for all of a scheme, * for every page there is. All others are refused. The operator's endpoints (/proxy, /metrics, the dashboard) answer their own pages only."),
		), "", ""),
		ours("admin", obj(
			ours("listen", textLike(wrongListen), "",
				"An address of their own for the operator's endpoints: /proxy, /metrics, the dashboard. Where clients connect they are then unknown. It needs a restart."),
		), "", ""),
	}
}

// wrongHost says what is wrong with a name that clients may call the proxy by.
func wrongHost(text string) string {
	name := hostOf(text)
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	rest := strings.TrimPrefix(name, "*.")
	switch {
	case rest == "" || rest == "*":
		return "must be a name, or *. and a name: which names are ours is what keeps others out"
	case strings.ContainsAny(rest, "*/:@? []"):
		return "must be a name or an address alone, without scheme, port and path, such as gpubox.example.com or *.lan"
	}
	return ""
}

// hostOf is a name as requests are compared with it.
func hostOf(text string) string {
	return strings.ToLower(strings.TrimSuffix(strings.Trim(strings.TrimSpace(text), "[]"), "."))
}

// wrongPage says what is wrong with an origin.
func wrongPage(text string) string {
	text = strings.TrimSpace(text)
	const want = "must be an origin as browsers send it, scheme://host or scheme://host:port without a path, or scheme://*, or *"
	if text == "*" {
		return ""
	}
	if scheme, ok := strings.CutSuffix(text, "://*"); ok && scheme != "" && !strings.ContainsAny(scheme, ":/*") {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(text, "*") {
		return want
	}
	return ""
}

// safety reads them.
func (l *loader) safety(own node, c *proxy.Config) {
	for _, item := range own.get("hosts").items() {
		c.Hosts = append(c.Hosts, hostOf(item.text()))
	}
	for _, item := range own.get("cors", "allowedOrigins").items() {
		o := strings.TrimSpace(item.text())
		if c.CORS.Origins = append(c.CORS.Origins, o); o == "*" {
			l.warn(item.pos(), item.path, "lets every web page that anybody here opens ask the models; name the origins that are meant")
		}
	}
	at := own.get("admin", "listen")
	own.get("admin").setText("listen", &c.Admin.Listen)
	c.Admin.Listen = strings.TrimSpace(c.Admin.Listen)
	if _, port, err := net.SplitHostPort(c.Admin.Listen); err == nil && port != "0" && c.Admin.Listen == c.Listen {
		l.at(at.pos(), at.path, "is proxy.listen: leave it out to have both at one address")
	}
}
