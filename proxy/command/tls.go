package command

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// TLS makes certificates of a local authority.
type TLS struct {
	Init   TLSInit   `cmd:"" group:"Commands:" help:"Make a local authority and a certificate for this proxy, or renew the certificate."`
	Client TLSClient `cmd:"" group:"Commands:" help:"Make a certificate for a client (proxy.tls.clientCA)."`
}

// Help teaches what tls does.
func (TLS) Help() string {
	return `Certificates of an authority of your own, for a proxy that others on the network use.
Only machines that you tell trust it, and it can vouch for local names, private addresses
and the names that you give it alone.

	nearside tls init
	nearside tls init --host llm.example.com
	nearside tls client laptop

Exit codes: 0 done; 1 it could not be written; 2 bad flags or configuration.`
}

// TLSInit makes or renews what proxy.tls needs.
type TLSInit struct {
	ConfigFlag
	Host  []string `placeholder:"NAME" help:"A further name or address by which clients call the proxy; may be repeated."`
	NewCA bool     `name:"new-ca" help:"Make a new authority even if there is one. Clients must trust the new one."`
}

// TLSClient makes a client's certificate.
type TLSClient struct {
	ConfigFlag
	Name string `arg:"" help:"Whose it is: the name of the file, and the certificate's subject."`
}

// The files of the authority, in the folder tls of the data folder.
const (
	tlsFolder   = "tls"
	caFile      = "ca.pem"
	caKeyFile   = "ca-key.pem"
	certFile    = "cert.pem"
	certKeyFile = "key.pem"
)

// How long certificates are good for. Clients of one platform or another take
// leaves of more than 398 days for forged.
const (
	caFor   = 10 * 365 * 24 * time.Hour
	leafFor = 365 * 24 * time.Hour
)

// Run makes the authority where there is none, and a certificate in any case.
func (c *TLSInit) Run(env *Env) error {
	dir, err := c.folder(env)
	if err != nil {
		return err
	}
	hostname, _ := os.Hostname()
	names, ips := namesOf(hostname, c.Host)
	ca, made, err := authorityIn(dir, c.NewCA, names, ips)
	if err != nil {
		return err
	}
	if err := ca.covers(names, ips); err != nil {
		return err
	}
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "nearside"}, DNSNames: names, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}} // as a client `nearside health` shows it
	if err := ca.issue(leaf, filepath.Join(dir, certFile), filepath.Join(dir, certKeyFile)); err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if made {
		fmt.Fprintf(env.Stdout, "%s\n  the authority, for clients to trust; good until %s\n%s\n  its key: whoever has it can pose as this proxy; keep it here, or somewhere safe\n", at(caFile), ca.cert.NotAfter.Format(time.DateOnly), at(caKeyFile))
	} else {
		fmt.Fprintf(env.Stdout, "%s\n  the authority that was there: clients that trust it need nothing new\n", at(caFile))
	}
	fmt.Fprintf(env.Stdout, "%s, %s\n  this proxy's certificate and key, good until %s\n  for %s\n", at(certFile), certKeyFile, leaf.NotAfter.Format(time.DateOnly), strings.Join(sans(names, ips), ", "))
	fmt.Fprintf(env.Stdout, "\nconfiguration (a running proxy that has it takes the new certificate over):\n  proxy: { tls: { cert: %q, key: %q } }\n", at(certFile), at(certKeyFile))
	fmt.Fprintf(env.Stdout, `
clients, with a copy of %[1]s:
  curl              curl --cacert %[1]s https://%[2]s:4141/healthz
  Node.js           NODE_EXTRA_CA_CERTS=%[1]s
  Python            SSL_CERT_FILE=%[1]s
  Go, Codex (Rust)  SSL_CERT_FILE=%[1]s, or the system's store
  Debian, Ubuntu    cp %[1]s /usr/local/share/ca-certificates/nearside.crt && update-ca-certificates
  macOS             security add-trusted-cert -k ~/Library/Keychains/login.keychain-db %[1]s
  Windows           certutil -user -addstore Root %[1]s
`, caFile, names[len(names)-1])
	return nil
}

// Run makes a certificate that the authority vouches for as a client's.
func (c *TLSClient) Run(env *Env) error {
	if c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || c.Name[0] == '.' || len(c.Name) > 64 {
		return usageError{fmt.Errorf("a client's name is of letters, digits, -, _ and ., not %q", c.Name)}
	}
	dir, err := c.folder(env)
	if err != nil {
		return err
	}
	ca, err := readAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no authority yet: run nearside tls init first")
	}
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "clients")
	cert, key := filepath.Join(dir, c.Name+".pem"), filepath.Join(dir, c.Name+"-key.pem")
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: c.Name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if err := ca.issue(leaf, cert, key); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "%s\n%s\n  for the client, good until %s: curl --cacert %s --cert %s --key %s https://…\n\nhave the proxy ask for one:\n  proxy: { tls: { …, clientCA: %q } }\n",
		cert, key, leaf.NotAfter.Format(time.DateOnly), caFile, filepath.Base(cert), filepath.Base(key), filepath.Join(filepath.Dir(dir), caFile))
	return nil
}

// folder returns where the files are kept.
func (c ConfigFlag) folder(env *Env) (string, error) {
	file, _, err := env.load(c.Config)
	if err != nil {
		return "", err
	}
	return filepath.Join(file.Proxy.DataDir, tlsFolder), nil
}

// namesOf returns the names and addresses by which this machine is called, this
// machine's own name with .local last.
func namesOf(hostname string, more []string) (names []string, ips []net.IP) {
	name := func(s string) {
		if s = strings.ToLower(strings.TrimSuffix(s, ".")); s != "" && !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	ip := func(at net.IP) {
		if !slices.ContainsFunc(ips, at.Equal) {
			ips = append(ips, at)
		}
	}
	ip(net.IPv4(127, 0, 0, 1))
	ip(net.IPv6loopback)
	addrs, _ := net.InterfaceAddrs() // without them loopback has to do
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			ip(n.IP)
		}
	}
	for _, m := range more {
		if at := net.ParseIP(strings.Trim(m, "[]")); at != nil {
			ip(at)
		} else {
			name(m)
		}
	}
	name("localhost")
	name(hostname)
	if first, _, _ := strings.Cut(hostname, "."); first != "" && first != "localhost" {
		name(first)
		name(first + ".local")
	}
	return names, ips
}

func sans(names []string, ips []net.IP) []string {
	all := slices.Clone(names)
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return all
}

// authority vouches for certificates.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// authorityIn returns that of a folder, made where there is none.
func authorityIn(dir string, anew bool, names []string, ips []net.IP) (a *authority, made bool, err error) {
	if !anew {
		a, err = readAuthority(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return a, false, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, false, err
	}
	host, _ := os.Hostname()
	now := time.Now()
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "nearside on " + host + ", made " + now.Format(time.DateOnly)}, SerialNumber: serial(),
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caFor), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		// Should the key be lost, it is of no use against the rest of the world.
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: localNames(names), PermittedIPRanges: localRanges(ips)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, false, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, false, err
	}
	a = &authority{cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key}
	return a, true, writePair(filepath.Join(dir, caFile), a.pem, filepath.Join(dir, caKeyFile), key)
}

// localNames are those that the authority may vouch for: what no public name
// can end in, and the names that were asked for.
func localNames(names []string) []string {
	all := []string{"localhost", "local", "lan", "home", "internal", "home.arpa"}
	for _, n := range names {
		if n = strings.TrimPrefix(n, "*."); !within(n, all) {
			all = append(all, n)
		}
	}
	return all
}

func within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

func localRanges(ips []net.IP) []*net.IPNet {
	var all []*net.IPNet
	for _, cidr := range [...]string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		all = append(all, n)
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(all, func(n *net.IPNet) bool { return n.Contains(ip) }) {
			bits := 128
			if v4 := ip.To4(); v4 != nil {
				ip, bits = v4, 32
			}
			all = append(all, &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)})
		}
	}
	return all
}

// readAuthority reads what an earlier run has made.
func readAuthority(dir string) (*authority, error) {
	text, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, err
	}
	keyText, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("the authority's key: %w (--new-ca makes another)", noSuch(err))
	}
	block, _ := pem.Decode(text)
	keyBlock, _ := pem.Decode(keyText)
	if block == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s: the authority's files are not in PEM form (--new-ca makes another)", dir)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (--new-ca makes another)", filepath.Join(dir, caFile), err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s (--new-ca makes another)", filepath.Join(dir, caKeyFile), caFile)
	}
	if time.Now().Add(leafFor).After(cert.NotAfter) {
		return nil, fmt.Errorf("the authority's own certificate ends on %s, too soon to vouch for another: make a new one with --new-ca", cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert, text, key}, nil
}

// noSuch keeps a missing key from being taken for a missing authority.
func noSuch(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is not there")
	}
	return err
}

// covers says which of the names and addresses an authority may not vouch for.
func (a *authority) covers(names []string, ips []net.IP) error {
	for _, n := range names {
		if !within(strings.TrimPrefix(n, "*."), a.cert.PermittedDNSDomains) {
			return fmt.Errorf("the authority that was made earlier may not vouch for %s: --new-ca makes one that may, which clients must then trust", n)
		}
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(a.cert.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) }) {
			return fmt.Errorf("the authority that was made earlier may not vouch for the address %s: --new-ca makes one that may, which clients must then trust", ip)
		}
	}
	return nil
}

// issue writes a certificate, with the authority's behind it, and its key.
func (a *authority) issue(t *x509.Certificate, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	t.SerialNumber, t.NotBefore, t.NotAfter = serial(), now.Add(-time.Hour), now.Add(leafFor)
	t.KeyUsage, t.BasicConstraintsValid = x509.KeyUsageDigitalSignature, true
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return writePair(certPath, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.pem...), keyPath, key)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic("BUG: no random numbers: " + err.Error())
	}
	return n.Add(n, big.NewInt(1))
}

// writePair writes a certificate and its key, each at once and for its owner
// alone. The key goes first: a proxy that looks in between keeps what it has.
func writePair(certPath string, cert []byte, keyPath string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certPath), 0o700); err != nil {
		return err
	}
	if err := replaceFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	return replaceFile(certPath, cert)
}

// replaceFile puts a file in the place of another, whole or not at all.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
