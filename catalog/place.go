package catalog

import (
	"net/netip"
	"net/url"
	"strings"
)

// Place is what the host of a base URL says about where it is, before any
// name is looked up.
type Place uint8

// The places. A name decides by its form; what it resolves to is checked when
// a connection is made.
const (
	PlaceUnknown   Place = iota // no host
	PlaceLoopback               // localhost, *.localhost, 127/8, ::1
	PlacePrivate                // LAN and tailnet addresses, .local and other private names, bare hostnames
	PlaceLinkLocal              // link-local and cloud metadata
	PlacePublic
)

// String returns the place's name for messages.
func (p Place) String() string {
	return [...]string{"unknown", "loopback", "private", "link-local", "public"}[p]
}

// Near says whether a provider at this place is near unless declared otherwise.
func (p Place) Near() bool { return p == PlaceLoopback || p == PlacePrivate }

// KeyNeeded says whether a provider at this place must have a real key.
func (p Place) KeyNeeded() bool { return p == PlacePublic }

// privateSuffixes are names that only a private network resolves.
var privateSuffixes = [...]string{".local", ".internal", ".lan", ".home.arpa", ".home", ".intranet", ".corp", ".ts.net"}

// hostOf returns the lower-cased host of a URL; one without a scheme is
// tolerated.
func hostOf(baseURL string) string {
	if !strings.Contains(baseURL, "://") {
		baseURL = "http://" + baseURL
	}
	u, err := url.Parse(baseURL)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// PlaceOf classifies the host of a base URL.
func PlaceOf(baseURL string) Place {
	host := hostOf(baseURL)
	switch {
	case host == "":
		return PlaceUnknown
	case host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "localhost.localdomain":
		return PlaceLoopback
	case host == "metadata.google.internal" || host == "metadata.goog" || host == "instance-data.ec2.internal":
		return PlaceLinkLocal
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		switch {
		case ip.IsLoopback() || ip.IsUnspecified():
			return PlaceLoopback
		case ip.IsLinkLocalUnicast() || metadata(ip):
			return PlaceLinkLocal
		case ip.IsPrivate() || tailnet.Contains(ip):
			return PlacePrivate
		}
		return PlacePublic
	}
	if !strings.Contains(host, ".") {
		// 2130706433 and 0x7f000001 are addresses to some resolvers, not names.
		if host[0] >= '0' && host[0] <= '9' && strings.Trim(host, "0123456789abcdefx") == "" {
			return PlacePublic
		}
		return PlacePrivate
	}
	for _, s := range privateSuffixes {
		if strings.HasSuffix(host, s) {
			return PlacePrivate
		}
	}
	return PlacePublic
}

// tailnet is carrier-grade NAT, which tailnets use.
var tailnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)

// metadata says whether an address is a cloud's metadata service outside of the
// link-local range; some lie where private networks do.
func metadata(ip netip.Addr) bool {
	for _, p := range metadataPrefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

var metadataPrefixes = [...]netip.Prefix{
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
}

// IsOpenAI says whether a base URL is OpenAI's own, or Azure's OpenAI: the
// native routes. Every other is a proxy-like route that gets no field which
// only OpenAI knows.
func IsOpenAI(baseURL string) bool {
	switch EndpointOf(baseURL) {
	case EndpointOpenAI, EndpointCodex, EndpointAzure:
		return true
	}
	return false
}

// IsKeyMarker says whether a key is a text that only says that there is none.
func IsKeyMarker(key string) bool {
	switch strings.TrimSpace(key) {
	case "custom-local", "ollama-local", "lmstudio-local", "vllm-local", "sglang-local", "secretref-managed":
		return true
	}
	return false
}
