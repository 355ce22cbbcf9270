package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pretendNet is a network of our own: names have the answers given, one list
// for each look-up, and connections go to addresses that are only pretended.
type pretendNet struct {
	mu      sync.Mutex
	answers map[string][][]string // look-ups of a name, in order; the last stays
	lookups int
	dialled []string
	connect func(ctx context.Context, address string) (net.Conn, error)
}

func (n *pretendNet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	list := n.answers[host]
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) > 1 {
		n.answers[host] = list[1:]
	}
	var out []netip.Addr
	for _, a := range list[0] {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func (n *pretendNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	n.mu.Unlock()
	return n.connect(ctx, address)
}

func (n *pretendNet) dialer(allow *bool) *Dialer {
	return &Dialer{Policy: Policy{Provider: "box", AllowPrivate: allow}, Resolver: n, Dial: n.dial}
}

// openPretendNet leads every connection to one listener on loopback.
func openPretendNet(t *testing.T, answers map[string][][]string) *pretendNet {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var nd net.Dialer
	return &pretendNet{answers: answers, connect: func(ctx context.Context, _ string) (net.Conn, error) {
		return nd.DialContext(ctx, "tcp", ln.Addr().String())
	}}
}

// What is at stake: a connection must never even be attempted to a place that
// the configuration did not open.
func TestDialerConnectsOnlyWhereThePolicyAllows(t *testing.T) {
	answers := func() map[string][][]string {
		return map[string][][]string{
			"box.lan":           {{"192.168.1.20"}},
			"box.local":         {{"192.168.1.20", "fe80::1%eth0"}},
			"only.local":        {{"fe80::1%eth0"}},
			"box.tail.ts.net":   {{"100.101.102.103", "fd7a:115c:a1e0::5"}},
			"api.example.com":   {{"93.184.215.14"}},
			"nat64.example.com": {{"64:ff9b::5db8:d70e"}},
			"mixed.example.com": {{"93.184.215.14", "192.168.1.20"}},
			"meta.example.com":  {{"93.184.215.14", "::ffff:169.254.169.254"}},
			"lo.example.com":    {{"127.0.0.1"}},
			"fake.example.com":  {{"198.18.0.4"}},
			"empty.example.com": {{}},
		}
	}
	f := func(host string, allow *bool, wantDialled string, wantErr string) {
		t.Helper()
		n := openPretendNet(t, answers())
		c, err := n.dialer(allow).DialContext(context.Background(), host, "1234")
		if c != nil {
			c.Close()
		}
		if got := strings.Join(n.dialled, " "); got != wantDialled {
			t.Errorf("%s with allowPrivateNetwork %v: dialled %q, want %q", host, show(allow), got, wantDialled)
		}
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("%s with allowPrivateNetwork %v: got error %v, want %q", host, show(allow), err, wantErr)
		}
	}
	const setting = "models.providers.box.request.allowPrivateNetwork"
	f("localhost", nil, "127.0.0.1:1234", "")
	f("localhost", no(), "", setting+" is false")
	f("127.0.0.1", nil, "127.0.0.1:1234", "")
	f("[::1]", nil, "[::1]:1234", "")
	f("192.168.1.20", nil, "", "set "+setting)
	f("192.168.1.20", yes(), "192.168.1.20:1234", "")
	f("::ffff:192.168.1.20", nil, "", setting)
	f("box.lan", nil, "", `address 192.168.1.20 of "box.lan" is private: set `+setting+`: true to allow it`)
	f("box.lan", yes(), "192.168.1.20:1234", "")
	f("box.local", nil, "", setting)
	f("box.local", yes(), "192.168.1.20:1234", "")
	f("only.local", yes(), "", "is link-local")
	f("box.tail.ts.net", nil, "", setting)
	f("box.tail.ts.net", yes(), "100.101.102.103:1234", "")
	f("api.example.com", nil, "93.184.215.14:1234", "")
	f("API.example.com.", no(), "93.184.215.14:1234", "")
	f("nat64.example.com", nil, "[64:ff9b::5db8:d70e]:1234", "")
	f("mixed.example.com", nil, "", setting)
	f("meta.example.com", nil, "", "metadata")
	f("meta.example.com", yes(), "", "metadata")
	f("metadata.google.internal", yes(), "", "metadata")
	f("169.254.169.254", yes(), "", "metadata")
	f("lo.example.com", nil, "", "is loopback: set "+setting)
	f("fake.example.com", nil, "", "198.18")
	f("fake.example.com", yes(), "198.18.0.4:1234", "")
	f("0x7f.1", yes(), "", "ambiguous")
	f("empty.example.com", nil, "", "no addresses")
	f("missing.example.com", nil, "", "no such host")
}

// A name that answers well once and badly the next time must be asked once for
// a connection, and refused as soon as it answers badly.
func TestDialerIsNotReboundByASecondAnswer(t *testing.T) {
	n := openPretendNet(t, map[string][][]string{"api.example.com": {{"93.184.215.14"}, {"10.0.0.5"}}})
	d := n.dialer(nil)
	c, err := d.DialContext(context.Background(), "api.example.com", "443")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n.lookups != 1 || !slices.Equal(n.dialled, []string{"93.184.215.14:443"}) {
		t.Fatalf("got %d look-ups and dialled %q, want one and the first answer", n.lookups, n.dialled)
	}
	_, err = d.DialContext(context.Background(), "api.example.com", "443")
	var ae *AddressError
	if !errors.As(err, &ae) || ae.IP != "10.0.0.5" || ae.Host != "api.example.com" {
		t.Fatalf("second connection: got %v, want the private answer refused", err)
	}
	if len(n.dialled) != 1 {
		t.Fatalf("dialled %q after the refusal", n.dialled)
	}
}

// With nothing injected, a loopback listener is reached by the real dialer and
// its last check; with loopback denied it is not.
func TestDialerChecksRealConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "llm.localhost"} {
		c, err := (&Dialer{Policy: Policy{Provider: "box"}}).DialContext(context.Background(), host, port)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		c.Close()
		var ae *AddressError
		_, err = (&Dialer{Policy: Policy{Provider: "box", AllowPrivate: no()}}).DialContext(context.Background(), host, port)
		if !errors.As(err, &ae) {
			t.Fatalf("%s with loopback denied: got %v, want an *AddressError", host, err)
		}
	}
	ln.Close()
	if _, err := (&Dialer{}).DialContext(context.Background(), "localhost", port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("closed port: got %v, want a refused connection", err)
	}
}

// One family that is silent, or one address of several, must not cost the
// connection.
func TestDialerGetsAroundSilentAddresses(t *testing.T) {
	silent := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f := func(name string, answers []string, good string, wantDialled []string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &pretendNet{answers: map[string][][]string{"h.example": {answers}}}
				n.connect = func(ctx context.Context, address string) (net.Conn, error) {
					if address != good {
						return silent(ctx)
					}
					c, other := net.Pipe()
					other.Close()
					return c, nil
				}
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				c, err := n.dialer(nil).DialContext(ctx, "h.example", "443")
				if good == "" {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("got %v, want the deadline", err)
					}
				} else if err != nil {
					t.Fatalf("got %v, want a connection to %s", err, good)
				} else {
					c.Close()
				}
				if !slices.Equal(n.dialled, wantDialled) {
					t.Fatalf("dialled %q, want %q", n.dialled, wantDialled)
				}
			})
		})
	}
	f("silent IPv4", []string{"2606:4700::1", "8.8.8.8"}, "[2606:4700::1]:443", []string{"8.8.8.8:443", "[2606:4700::1]:443"})
	f("silent IPv6", []string{"2606:4700::1", "8.8.8.8"}, "8.8.8.8:443", []string{"8.8.8.8:443"})
	f("first of three", []string{"8.8.8.8", "8.8.4.4", "1.1.1.1"}, "1.1.1.1:443", []string{"8.8.8.8:443", "8.8.4.4:443", "1.1.1.1:443"})
	f("all", []string{"8.8.8.8", "2606:4700::1"}, "", []string{"8.8.8.8:443", "[2606:4700::1]:443"})
}

// A family that refuses at once hands over at once, and the error kept is that
// of the address most people mean.
func TestDialerTriesTheOtherFamilyAfterARefusal(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	n := &pretendNet{}
	n.connect = func(_ context.Context, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "[") {
			return nil, &net.OpError{Op: "dial", Err: syscall.EADDRNOTAVAIL}
		}
		return nil, refused
	}
	_, err := n.dialer(nil).DialContext(context.Background(), "localhost", "1")
	if !errors.Is(err, syscall.ECONNREFUSED) || !slices.Equal(n.dialled, []string{"127.0.0.1:1", "[::1]:1"}) {
		t.Fatalf("got %v after %q, want the refusal of IPv4 after both", err, n.dialled)
	}
}

// A client that leaves while we dial ends both families and leaves nothing
// running or open.
func TestDialerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		n := &pretendNet{answers: map[string][][]string{"h.example": {{"8.8.8.8", "2606:4700::1"}}}}
		n.connect = func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		go func() {
			time.Sleep(time.Second) // of the bubble's clock
			cancel()
		}()
		if _, err := n.dialer(nil).DialContext(ctx, "h.example", "443"); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the cancellation", err)
		}
	})
}

// What is at stake: a request that must not leave the house goes to a near
// provider. A name that only a private network has is no way out of it, whoever
// answers for it; one that the configuration calls near is its owner's.
func TestNearNamesDoNotLeadOut(t *testing.T) {
	f := func(p Policy, host, answer, wantDialled, wantErr string) {
		t.Helper()
		n := openPretendNet(t, map[string][][]string{host: {{answer}}})
		d := n.dialer(nil)
		d.Policy = p
		c, err := d.DialContext(context.Background(), host, "1234")
		if c != nil {
			c.Close()
		}
		if got := strings.Join(n.dialled, " "); got != wantDialled || wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("%s at %s: dialled %q, error %v; want %q, %q", host, answer, got, err, wantDialled, wantErr)
		}
	}
	near := PolicyOf(Config{ID: "box", Near: true, AllowPrivate: yes()})
	f(near, "box.lan", "192.168.1.20", "192.168.1.20:1234", "")
	f(near, "box.lan", "93.184.215.14", "", `address 93.184.215.14 of "box.lan" is public`)
	f(near, "gpubox", "93.184.215.14", "", "proxy.providers.box.near: true")
	f(near, "box.local", "64:ff9b::5db8:d70e", "", "is public")
	said := PolicyOf(Config{ID: "box", Near: true, NearSaid: true, AllowPrivate: yes()})
	f(said, "gpubox", "93.184.215.14", "93.184.215.14:1234", "")
	f(said, "api.example.com", "93.184.215.14", "93.184.215.14:1234", "")
	f(PolicyOf(Config{ID: "far"}), "api.example.com", "93.184.215.14", "93.184.215.14:1234", "")
	f(Policy{Provider: imagesID, AllowPrivate: yes(), PrivateOnly: true}, "api.example.com", "93.184.215.14", "", "the request is near only")
	f(Policy{Provider: imagesID, AllowPrivate: yes(), PrivateOnly: true}, "box.lan", "192.168.1.20", "192.168.1.20:1234", "")
}
