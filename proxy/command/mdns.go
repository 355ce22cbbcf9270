package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/mdns"
	"github.com/rs/zerolog"

	"nearside/proxy/config"
)

// mdnsService is what proxies announce themselves as, in the network of the machine.
const mdnsService = "_nearside._tcp"

// mdnsNamesMax bounds the proxies that one look finds.
const mdnsNamesMax = 64

// quiet takes what the library says for itself.
var quiet = slog.NewLogLogger(slog.DiscardHandler, 0)

// announce tells the network that a proxy listens, where the configuration wants
// that. What it returns ends it, and is never nil.
func announce(file *config.Config, addr, version string, to zerolog.Logger) (stop func()) {
	stop = func() {}
	if !file.MDNS.Announce {
		return stop
	}
	name, err := announced(file, addr, version)
	if err != nil {
		to.Warn().Err(err).Msg("not announced (proxy.mdns)")
		return stop
	}
	server, err := mdns.NewServer(&mdns.Config{Zone: name.zone, Iface: name.iface, Logger: quiet})
	if err != nil {
		to.Warn().Err(err).Msg("not announced (proxy.mdns)")
		return stop
	}
	to.Info().Str("name", name.zone.Instance).Str("service", mdnsService).Msg("announced")
	return func() { _ = server.Shutdown() }
}

// announcement is what is told, and where.
type announcement struct {
	zone  *mdns.MDNSService
	iface *net.Interface // nil for the system's choice
}

// announced makes an announcement of what the configuration says.
func announced(file *config.Config, addr, version string) (a announcement, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return a, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return a, err
	}
	if a.iface, err = mdnsInterface(file); err != nil {
		return a, err
	}
	ips, err := reachable(host, a.iface)
	if err != nil {
		return a, err
	}
	name := file.MDNS.Name
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return a, err
		}
	}
	name, _, _ = strings.Cut(name, ".")
	secure := "0"
	if file.Certificate != nil {
		secure = "1"
	}
	a.zone, err = mdns.NewMDNSService(name, mdnsService, "", name+".local.", port, ips, []string{"path=/v1", "tls=" + secure, "version=" + version})
	return a, err
}

func mdnsInterface(file *config.Config) (*net.Interface, error) {
	if file.MDNS.Interface == "" {
		return nil, nil
	}
	i, err := net.InterfaceByName(file.MDNS.Interface)
	if err != nil {
		return nil, fmt.Errorf("proxy.mdns.interface: %w", err)
	}
	return i, nil
}

// reachable returns the addresses under which others reach what listens on a host.
func reachable(host string, iface *net.Interface) (ips []net.IP, err error) {
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		if ip.IsLoopback() && (iface == nil || iface.Flags&net.FlagLoopback == 0) {
			return nil, errors.New("proxy.listen is loopback, where no other machine comes")
		}
		return []net.IP{ip}, nil
	}
	addrs, err := net.InterfaceAddrs()
	if iface != nil {
		addrs, err = iface.Addrs()
	}
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP)
		}
	}
	if len(ips) == 0 {
		return nil, errors.New("this machine has no address in a network")
	}
	return ips, nil
}

// neighbour is a proxy that announces itself.
type neighbour struct {
	Name string `json:"name"`
	URL  string `json:"url"` // base URL for a provider
}

// shown is its name, as a terminal may have it.
func (n neighbour) shown() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, n.Name)
}

// id is what a provider of it is called.
func (n neighbour) id() string {
	if id := strings.Trim(notInAName.ReplaceAllString(strings.ToLower(n.Name), "-"), "-"); id != "" {
		return id
	}
	return "nearside"
}

// browse asks the network for proxies, for as long as wait: by IPv4, since one that has
// no IPv6 cannot be asked by it, and what has only that is not found.
func browse(ctx context.Context, file *config.Config, wait time.Duration) ([]neighbour, error) {
	iface, err := mdnsInterface(file)
	if err != nil {
		return nil, err
	}
	entries := make(chan *mdns.ServiceEntry, mdnsNamesMax)
	err = mdns.QueryContext(ctx, &mdns.QueryParam{Service: mdnsService, Domain: "local", Timeout: wait, Interface: iface, Entries: entries, DisableIPv6: true, Logger: quiet})
	if err != nil {
		return nil, fmt.Errorf("ask the network: %w", err)
	}
	close(entries)
	var all []neighbour
	for e := range entries {
		name, ours := strings.CutSuffix(e.Name, "."+mdnsService+".local.")
		ip := e.AddrV4
		if ip == nil && e.AddrV6IPAddr != nil {
			ip = e.AddrV6IPAddr.IP
		}
		if !ours || ip == nil || e.Port <= 0 {
			continue // somebody else's answer
		}
		scheme := "http"
		if slices.Contains(e.InfoFields, "tls=1") {
			scheme = "https"
		}
		n := neighbour{Name: name, URL: scheme + "://" + net.JoinHostPort(ip.String(), strconv.Itoa(e.Port)) + "/v1"}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b neighbour) int { return strings.Compare(a.Name+a.URL, b.Name+b.URL) })
	return all, nil
}

// browseTime is how long the network is listened to.
const browseTime = 2 * time.Second

// lan lists the proxies that announce themselves. None of them is used by itself:
// whoever answers in a network may be anybody.
func (c *Models) lan(ctx context.Context, env *Env, file *config.Config) error {
	all, err := browse(ctx, file, browseTime)
	if err != nil {
		return err
	}
	if c.JSON {
		return env.json(struct {
			Neighbours []neighbour `json:"neighbours"`
		}{append([]neighbour{}, all...)})
	}
	if len(all) == 0 {
		fmt.Fprintln(env.Stdout, "no nearside announces itself here (proxy.mdns.announce)")
		return nil
	}
	rows := [][]string{{"name", "address", "to use it"}}
	for _, n := range all {
		rows = append(rows, []string{n.shown(), n.URL, "nearside onboard " + n.URL + " --id " + n.id() + " --key-env NAME"})
	}
	table(env.Stdout, "", rows)
	return nil
}
