package upstream

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"nearside/catalog"
)

// Policy says to which addresses a provider's connections may go. The zero
// value trusts public addresses, and loopback for hosts that say loopback.
type Policy struct {
	Provider string // id, for the setting that errors name
	// AllowPrivate is request.allowPrivateNetwork, as in Config.
	AllowPrivate *bool
	// Near says that the provider is near by its address alone: a name that only a
	// private network has must not lead out of it.
	Near bool
	// PrivateOnly admits no public address, whatever the host.
	PrivateOnly bool
}

// PolicyOf returns the policy of a provider's connections.
func PolicyOf(c Config) Policy {
	return Policy{Provider: c.ID, AllowPrivate: c.AllowPrivate, Near: c.Near && !c.NearSaid}
}

// AddressError says that our own address policy, and not the network, stands
// between us and a backend. It is a mistake in the configuration, or somebody
// answering for a name that is not theirs; it is never the backend's failure.
type AddressError struct {
	Host    string // as configured
	IP      string // the address refused; empty when the host itself is
	Setting string // configuration path to look at
	Reason  string // "is private", "is link-local", …
	Advice  string // what to do about it
}

func (e *AddressError) Error() string {
	var b strings.Builder
	switch {
	case e.IP == "":
		fmt.Fprintf(&b, "host %q", e.Host)
	case e.IP == e.Host:
		b.WriteString("address " + e.IP)
	default:
		fmt.Fprintf(&b, "address %s of %q", e.IP, e.Host)
	}
	return b.String() + " " + e.Reason + ": " + e.Advice
}

// addressClass is what kind of place an address is, the worse the larger.
type addressClass uint8

const (
	addressPublic addressClass = iota
	addressLoopback
	addressPrivate   // RFC 1918, ULA
	addressTailnet   // 100.64/10: carriers' NAT, and tailnets
	addressBenchmark // 198.18/15: nobody's, but proxies that fake DNS use it
	addressUnspecified
	addressMulticast
	addressBroadcast
	addressReserved
	addressLinkLocal
	addressMetadata
)

func (c addressClass) String() string {
	return [...]string{"is public", "is loopback", "is private", "is private (tailnet or carrier NAT)",
		"is private (198.18/15)", "names no machine", "is a multicast address", "is a broadcast address",
		"is in a reserved range", "is link-local", "is a cloud metadata service"}[c]
}

func addressPrefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		list[i] = netip.MustParsePrefix(t)
	}
	return list
}

// Where clouds hand credentials to whoever asks from inside. Azure's is a
// public address, the others lie in ranges that allowPrivateNetwork opens.
var metadataPrefixes = addressPrefixes(
	"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", // AWS, Google, Azure, Oracle; ECS; EKS
	"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // Alibaba, Azure, Oracle
	"fd00:ec2::/32", "fd20:ce::254/128", "fd00:42::42/128", // AWS, Google, Scaleway
)

var reservedPrefixes = addressPrefixes(
	"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "3fff::/20",
)

var (
	benchmarkPrefix  = netip.MustParsePrefix("198.18.0.0/15")
	tailnetPrefix    = netip.MustParsePrefix("100.64.0.0/10")
	globalPrefix     = netip.MustParsePrefix("2000::/3")
	sixToFourPrefix  = netip.MustParsePrefix("2002::/16")
	teredoPrefix     = netip.MustParsePrefix("2001::/32")
	nat64Prefix      = netip.MustParsePrefix("64:ff9b::/96")
	nat64LocalPrefix = netip.MustParsePrefix("64:ff9b:1::/48")
	translatedPrefix = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatiblePrefix = netip.MustParsePrefix("::/96")
)

func addressIn(ip netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// classify says what kind of place ip is. An IPv6 address that carries an IPv4
// one is as bad as the worse of the two.
func classify(ip netip.Addr) addressClass {
	ip = ip.Unmap().WithZone("")
	switch {
	case addressIn(ip, metadataPrefixes):
		return addressMetadata
	case ip.IsUnspecified():
		return addressUnspecified
	case ip.IsLoopback():
		return addressLoopback
	case ip.IsLinkLocalUnicast():
		return max(addressLinkLocal, classifyEmbedded(ip))
	case ip.IsMulticast():
		return addressMulticast
	case ip.IsPrivate():
		return max(addressPrivate, classifyEmbedded(ip))
	}
	if ip.Is4() {
		switch {
		case tailnetPrefix.Contains(ip):
			return addressTailnet
		case benchmarkPrefix.Contains(ip):
			return addressBenchmark
		case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return addressBroadcast
		case addressIn(ip, reservedPrefixes):
			return addressReserved
		}
		return addressPublic
	}
	switch {
	case teredoPrefix.Contains(ip), sixToFourPrefix.Contains(ip), nat64Prefix.Contains(ip):
		// Tunnels and DNS64 lead to public hosts where the rest of the network
		// is IPv6 only: what counts is where they lead.
		return classifyEmbedded(ip)
	case nat64LocalPrefix.Contains(ip):
		return max(addressPrivate, classifyEmbedded(ip))
	case !globalPrefix.Contains(ip), addressIn(ip, reservedPrefixes):
		return max(addressReserved, classifyEmbedded(ip))
	}
	return classifyEmbedded(ip)
}

// classifyEmbedded returns the worst class of the IPv4 addresses that an IPv6
// address carries, public when it carries none.
func classifyEmbedded(ip netip.Addr) addressClass {
	if !ip.Is6() {
		return addressPublic
	}
	b := ip.As16()
	worst := addressPublic
	see := func(b0, b1, b2, b3 byte) { worst = max(worst, classify(netip.AddrFrom4([4]byte{b0, b1, b2, b3}))) }
	switch {
	case sixToFourPrefix.Contains(ip):
		see(b[2], b[3], b[4], b[5])
	case teredoPrefix.Contains(ip):
		see(b[4], b[5], b[6], b[7])         // the server
		see(^b[12], ^b[13], ^b[14], ^b[15]) // the client, written inverted
	case nat64LocalPrefix.Contains(ip):
		// RFC 6052 puts the IPv4 address where the length of the operator's
		// prefix says, which we cannot know: every place it may be is looked
		// at. What begins with 0 is the gap before or after it.
		may := func(b0, b1, b2, b3 byte) {
			if b0 != 0 {
				see(b0, b1, b2, b3)
			}
		}
		tail := binary.BigEndian.Uint32(b[12:])
		may(b[12], b[13], b[14], b[15])
		if tail&0xffffff == 0 {
			may(b[9], b[10], b[11], b[12])
		}
		if tail == 0 {
			may(b[7], b[9], b[10], b[11])
			if b[11] == 0 {
				may(b[6], b[7], b[9], b[10])
			}
		}
	case nat64Prefix.Contains(ip), translatedPrefix.Contains(ip), compatiblePrefix.Contains(ip):
		see(b[12], b[13], b[14], b[15])
	}
	// ISATAP: an interface identifier of 0:5efe or 200:5efe and the address.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		see(b[12], b[13], b[14], b[15])
	}
	return worst
}

// Check returns nil when a connection for host may go to ip, else an
// *AddressError.
func (p Policy) Check(host string, ip netip.Addr) error {
	class := classify(ip)
	if p.admits(host, class) {
		return nil
	}
	return p.refuse(host, ip.String(), class)
}

func (p Policy) admits(host string, class addressClass) bool {
	allowed := p.AllowPrivate != nil && *p.AllowPrivate
	denied := p.AllowPrivate != nil && !*p.AllowPrivate
	switch class {
	case addressPublic:
		return !p.PrivateOnly && !(p.Near && catalog.PlaceOf(host).Near())
	case addressLoopback:
		// A public name that leads to loopback is somebody else's idea.
		return allowed || !denied && saysLoopback(host)
	case addressPrivate, addressTailnet, addressBenchmark:
		return allowed
	}
	return false
}

func (p Policy) refuse(host, ip string, class addressClass) error {
	e := &AddressError{Host: host, IP: ip, Reason: class.String()}
	switch class {
	case addressPublic:
		e.Setting = p.ownSetting("near")
		e.Advice = "the name is one of a private network, and requests to it must not leave yours; write the public name in baseUrl, or set " + e.Setting + ": true if the machine is yours"
		if p.PrivateOnly {
			e.Setting, e.Advice = "", "the request is near only, and nothing public is asked for it"
		}
	case addressLoopback, addressPrivate, addressTailnet, addressBenchmark:
		e.Setting = p.setting("request.allowPrivateNetwork")
		switch {
		case p.AllowPrivate != nil:
			e.Advice = e.Setting + " is false"
		case p.Provider == discoverID:
			// A name that says public was not trusted with a private address by
			// being listed: somebody else may answer for it.
			e.Advice = "write it under models.providers and set " + e.Setting + ": true to allow it"
		default:
			e.Advice = "set " + e.Setting + ": true to allow it"
		}
	case addressUnspecified:
		e.Setting = p.setting("baseUrl")
		e.Advice = "write 127.0.0.1, or the machine's own address, in " + e.Setting
	default:
		e.Setting = p.setting("baseUrl")
		e.Advice = "it is never allowed; see " + e.Setting
	}
	return e
}

func (p Policy) ownSetting(key string) string {
	if strings.ContainsAny(p.Provider, ". \"[]") {
		return fmt.Sprintf("proxy.providers[%q].%s", p.Provider, key)
	}
	return "proxy.providers." + p.Provider + "." + key
}

func (p Policy) setting(key string) string {
	switch {
	case p.Provider == discoverID && key == "baseUrl":
		return "proxy.discovery.addresses"
	case p.Provider == imagesID && key == "baseUrl":
		return "the address of the image"
	case p.Provider == imagesID:
		return "proxy.inputs.fetchPrivate"
	}
	if strings.ContainsAny(p.Provider, ". \"[]") {
		return fmt.Sprintf("models.providers[%q].%s", p.Provider, key)
	}
	return "models.providers." + p.Provider + "." + key
}

// literal reads a host as an address or a name. Ways of writing an address
// that two readers take for two addresses are refused.
func (p Policy) literal(host string) (name string, ip netip.Addr, err error) {
	bare := host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	ip, parseErr := netip.ParseAddr(bare)
	if parseErr == nil && ip.Zone() == "" {
		return bare, ip, nil
	}
	name = strings.ToLower(strings.TrimSuffix(bare, "."))
	odd := func(reason, advice string) (string, netip.Addr, error) {
		setting := p.setting("baseUrl")
		return "", netip.Addr{}, &AddressError{Host: host, Setting: setting, Reason: reason, Advice: advice + " in " + setting}
	}
	switch {
	case name == "":
		return odd("is empty", "write a host name or an address")
	case parseErr == nil, strings.ContainsAny(name, ":%"):
		return odd("is not a plain IPv6 address", "write a host name or an address without a zone")
	case endsInNumber(name):
		return odd("is an ambiguous way to write an IPv4 address", "write four decimal numbers")
	case metadataName(name):
		return odd(addressMetadata.String(), "it is never allowed; write another host")
	}
	return name, netip.Addr{}, nil
}

// endsInNumber is the URL standard's test for what other programs may read as
// an IPv4 address: 127.1, 0x7f000001, 017700000001, 2130706433.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits := last != ""
	for i := range len(last) {
		digits = digits && last[i] >= '0' && last[i] <= '9'
	}
	if digits {
		return true
	}
	hex, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

func metadataName(name string) bool {
	switch name {
	case "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal":
		return true
	}
	return false
}

// saysLoopback says whether host is written as this machine: localhost, a name
// below it, or a loopback address.
func saysLoopback(host string) bool {
	name := strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}
