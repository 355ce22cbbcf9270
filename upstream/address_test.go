package upstream

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

// What is at stake: an address that slips through sends prompts and keys to a
// machine nobody configured, or asks a cloud for its credentials.
func TestPolicyAdmitsAddressesBySetting(t *testing.T) {
	const never, private, public = "never", "private", "public"
	for text, want := range map[string]string{
		"8.8.8.8": public, "1.1.1.1": public, "100.63.255.255": public, "100.128.0.0": public, "172.32.0.1": public,
		"2606:4700::1111": public, "2a00:1450:4001::200e": public,
		"64:ff9b::8.8.8.8": public, "2002:808:808::1": public, "::ffff:8.8.8.8": public,

		"10.0.0.1": private, "172.16.5.4": private, "172.31.255.255": private, "192.168.1.20": private,
		"100.64.0.1": private, "100.127.255.255": private, "198.18.0.7": private, "198.19.255.255": private,
		"fc00::1": private, "fd7a:115c:a1e0::5": private, "127.0.0.1": private, "127.8.8.8": private, "::1": private,
		"::ffff:192.168.1.20": private, "::ffff:127.0.0.1": private, "64:ff9b::10.0.0.1": private,
		"64:ff9b::127.0.0.1": private, "64:ff9b:1::8.8.8.8": private, "64:ff9b:1:a00:0:100::": private,
		"2002:a00:1::1": private, "2002:7f00:1::1": private, "2001:db9::5efe:10.0.0.1": private,
		"2001:db9::200:5efe:192.168.0.1": private,
		// Teredo: server 8.8.8.8, client 10.0.0.1 inverted.
		"2001:0:808:808:0:0:f5ff:fffe": private,

		"169.254.169.254": never, "169.254.0.1": never, "169.254.170.2": never, "100.100.100.200": never,
		"168.63.129.16": never, "fd00:ec2::254": never, "fd20:ce::254": never, "fe80::1": never, "febf::1": never,
		"::ffff:169.254.169.254": never, "::169.254.169.254": never, "64:ff9b::169.254.169.254": never,
		"64:ff9b:1::169.254.169.254": never, "64:ff9b:1:a9fe:a9:fe00::": never, "64:ff9b:1:a9:fe:a9fe::": never,
		"64:ff9b:1:0:a9:fea9:fe00:0": never, "2002:a9fe:a9fe::1": never, "::ffff:0:169.254.169.254": never,
		"2001:0:808:808:0:0:5601:5601": never, "2606::5efe:169.254.169.254": never, "fd00::5efe:169.254.169.254": never,
		"0.0.0.0": never, "::": never, "0.1.2.3": never, "::ffff:0.0.0.0": never,
		"224.0.0.1": never, "239.255.255.250": never, "255.255.255.255": never, "240.0.0.1": never, "ff02::1": never,
		"192.0.2.1": never, "198.51.100.1": never, "203.0.113.9": never, "192.0.0.8": never, "192.88.99.1": never,
		"::127.0.0.1": never, "::8.8.8.8": never, "fec0::1": never, "2001:db8::1": never, "3fff::1": never,
		"2001:2::1": never, "2001:20::1": never, "100::1": never, "5f00::1": never, "4000::1": never,
	} {
		ip := netip.MustParseAddr(text)
		for _, c := range []struct {
			allow *bool
			want  bool
		}{{nil, want == public}, {no(), want == public}, {yes(), want != never}} {
			err := Policy{Provider: "p", AllowPrivate: c.allow}.Check("api.example.com", ip)
			if (err == nil) != c.want {
				t.Errorf("%s with allowPrivateNetwork %v: got %v, want admitted %v", text, show(c.allow), err, c.want)
			}
			var ae *AddressError
			if err != nil && (!errors.As(err, &ae) || ae.Setting == "" || !strings.Contains(err.Error(), ae.Setting)) {
				t.Errorf("%s: the error %q does not name its setting", text, err)
			}
		}
	}
}

func show(b *bool) any {
	if b == nil {
		return "unset"
	}
	return *b
}

// Whatever an address is wrapped in, the wrapping must not make it better.
func TestEmbeddingNeverImprovesAnAddress(t *testing.T) {
	for _, text := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.9", "192.168.255.254", "100.64.1.2", "198.18.3.4",
		"169.254.169.254", "169.254.1.1", "100.100.100.200", "0.0.0.0", "224.0.0.251", "255.255.255.255", "240.1.1.1"} {
		v4 := netip.MustParseAddr(text)
		want := classify(v4)
		a := v4.As4()
		put := func(base string, at ...int) netip.Addr {
			b := netip.MustParseAddr(base).As16()
			for i, j := range at {
				b[j] = a[i]
			}
			return netip.AddrFrom16(b)
		}
		inverted := put("2001:0:808:808::", 12, 13, 14, 15).As16()
		for i := 12; i < 16; i++ {
			inverted[i] = ^inverted[i]
		}
		forms := map[string]netip.Addr{
			"mapped":         put("::ffff:0:0", 12, 13, 14, 15),
			"compatible":     put("::", 12, 13, 14, 15),
			"translated":     put("::ffff:0:0:0", 12, 13, 14, 15),
			"6to4":           put("2002::1", 2, 3, 4, 5),
			"Teredo server":  put("2001::f7f7:f7f7", 4, 5, 6, 7),
			"Teredo client":  netip.AddrFrom16(inverted),
			"NAT64":          put("64:ff9b::", 12, 13, 14, 15),
			"local NAT64/96": put("64:ff9b:1::", 12, 13, 14, 15),
			"ISATAP":         put("2606:1::5efe:0:0", 12, 13, 14, 15),
			"ISATAP global":  put("2606:1::200:5efe:0:0", 12, 13, 14, 15),
		}
		for name, ip := range forms {
			if got := classify(ip); got < want && !(v4.IsUnspecified() && got > addressPublic) {
				t.Errorf("%s as %s (%s): got %v, want at least %v", text, name, ip, got, want)
			}
		}
	}
}

func TestLoopbackIsTrustedWhereTheHostSaysSo(t *testing.T) {
	lo, lo6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	for _, host := range []string{"localhost", "LOCALHOST.", "api.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"} {
		for _, ip := range []netip.Addr{lo, lo6} {
			if err := (Policy{Provider: "p"}).Check(host, ip); err != nil {
				t.Errorf("%s at %s: got %v, want nil", host, ip, err)
			}
			if err := (Policy{Provider: "p", AllowPrivate: no()}).Check(host, ip); err == nil {
				t.Errorf("%s at %s with allowPrivateNetwork false: admitted", host, ip)
			}
		}
	}
	for _, host := range []string{"api.example.com", "localhost.example.com", "notlocalhost", "box", "127.0.0.1.nip.io", "2002:7f00:1::1"} {
		if err := (Policy{Provider: "p"}).Check(host, lo); err == nil {
			t.Errorf("%s at loopback: admitted", host)
		}
	}
}

func TestAddressErrorsNameTheSetting(t *testing.T) {
	f := func(p Policy, host, ip, want string) {
		t.Helper()
		err := p.Check(host, netip.MustParseAddr(ip))
		if err == nil || err.Error() != want {
			t.Fatalf("%s at %s\n got %v\nwant %s", host, ip, err, want)
		}
	}
	f(Policy{Provider: "box"}, "box.lan", "192.168.1.20",
		`address 192.168.1.20 of "box.lan" is private: set models.providers.box.request.allowPrivateNetwork: true to allow it`)
	f(Policy{Provider: "box"}, "192.168.1.20", "192.168.1.20",
		`address 192.168.1.20 is private: set models.providers.box.request.allowPrivateNetwork: true to allow it`)
	f(Policy{Provider: "a.b", AllowPrivate: no()}, "localhost", "127.0.0.1",
		`address 127.0.0.1 of "localhost" is loopback: models.providers["a.b"].request.allowPrivateNetwork is false`)
	f(Policy{Provider: "box", AllowPrivate: yes()}, "box.lan", "169.254.169.254",
		`address 169.254.169.254 of "box.lan" is a cloud metadata service: it is never allowed; see models.providers.box.baseUrl`)
	f(Policy{Provider: "box"}, "0.0.0.0", "0.0.0.0",
		`address 0.0.0.0 names no machine: write 127.0.0.1, or the machine's own address, in models.providers.box.baseUrl`)
}

func TestOddLiteralsAreRefused(t *testing.T) {
	p := Policy{Provider: "p", AllowPrivate: yes()}
	for _, host := range []string{"", "[]", ".", "127.1", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "017700000001", "2130706433",
		"127.0.0.01", "127.0.0.1.", "1.2.3.4.5", "a.0x", "fe80::1%eth0", "::1%lo", "[::1", "a:b", "::ffff:1.2.3", "1.2.3.4:80",
		"metadata.google.internal", "METADATA.google.INTERNAL."} {
		_, _, err := p.literal(host)
		var ae *AddressError
		if !errors.As(err, &ae) || !strings.Contains(ae.Error(), "models.providers.p.baseUrl") {
			t.Errorf("%q: got %v, want an *AddressError that names the base URL", host, err)
		}
	}
	for _, host := range []string{"localhost", "api.openai.com", "API.openai.com.", "box", "box-2.local", "0x7f.example", "1password.com", "cafe", "127.0.0.1.nip.io"} {
		name, ip, err := p.literal(host)
		if want := strings.ToLower(strings.TrimSuffix(host, ".")); err != nil || ip.IsValid() || name != want {
			t.Errorf("%q: got %q %v %v, want the name %q", host, name, ip, err, want)
		}
	}
	for _, host := range []string{"127.0.0.1", "::1", "[::1]", "2606:4700::1111"} {
		if _, ip, err := p.literal(host); err != nil || !ip.IsValid() {
			t.Errorf("%q: got %v %v, want an address", host, ip, err)
		}
	}
}

func FuzzPolicyNeverOpensLinkLocal(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte("\x00\x64\xff\x9b\x00\x01\x00\x00\x00\x00\x00\x00\xa9\xfe\xa9\xfe"))
	f.Add([]byte("\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x5e\xfe\x08\x08\x08\x08"))
	f.Fuzz(func(t *testing.T, p []byte) {
		ip, ok := netip.AddrFromSlice(p)
		if !ok {
			return
		}
		class := classify(ip)
		if ip.IsLinkLocalUnicast() && class < addressLinkLocal {
			t.Fatalf("%s: got %v", ip, class)
		}
		unset, allowed := Policy{Provider: "p"}, Policy{Provider: "p", AllowPrivate: yes()}
		if unset.Check("h.example", ip) == nil && allowed.Check("h.example", ip) != nil {
			t.Fatalf("%s: allowPrivateNetwork takes away what is public", ip)
		}
		if class >= addressUnspecified && allowed.Check("localhost", ip) == nil {
			t.Fatalf("%s, which %v, was admitted", ip, class)
		}
		if unset.Check("h.example", ip) == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified()) {
			t.Fatalf("%s was admitted as public", ip)
		}
	})
}
