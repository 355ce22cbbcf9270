package command

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nearside/catalog"
	"nearside/proxy/config"
)

// config says what is wrong with the configuration, and whether others may read keys
// in it.
func (d *doctor) config(path string, file *config.Config, problems config.Problems) {
	for _, p := range problems {
		level := levelFail
		if p.Warning {
			level = levelWarn
		}
		d.say(finding{Area: "config", Check: "content", Level: level, Text: p.String()})
	}
	if path == "" {
		d.say(finding{Area: "config", Check: "file", Level: levelPass, Text: "there is none: the built-in defaults hold"})
		return
	}
	if len(problems.Errors()) == 0 {
		d.say(finding{Area: "config", Check: "file", Level: levelPass, Text: path + " can be used"})
	}
	for _, name := range file.Files {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm()&0o077 == 0 {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for _, b := range file.Backends {
			if key := b.Key.Reveal(); len(key) >= 12 && strings.Contains(string(text), key) {
				d.say(finding{Area: "config", Of: "", Check: "keys", Level: levelWarn, Text: fmt.Sprintf("%s holds the key of %s and others on this machine may read it (mode %04o)", name, b.ID, info.Mode().Perm()), Fix: "chmod 600 " + shell(name)})
				break
			}
		}
	}
}

// environment looks at what the process inherits, and at the machine.
func (d *doctor) environment() {
	say := func(check, level, text, fix string) {
		d.say(finding{Area: "environment", Check: check, Level: level, Text: text, Fix: fix})
	}
	var set []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if d.env.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	var users []string
	for _, b := range d.snap.Backends {
		if b.ProxyURL == "env" {
			users = append(users, b.ID)
		}
	}
	switch {
	case len(users) > 0 && len(set) == 0:
		say("proxy variables", levelWarn, strings.Join(users, ", ")+" would use the proxy of the environment (request.proxy.mode env-proxy), and none is set there", "")
	case len(users) > 0:
		say("proxy variables", levelPass, strings.Join(users, ", ")+" use the proxy of "+strings.Join(set, ", "), "")
	case len(set) > 0:
		say("proxy variables", levelNote, strings.Join(set, ", ")+" are set; no provider uses them unless its request.proxy.mode is env-proxy", "")
	default:
		say("proxy variables", levelPass, "none are set", "")
	}
	if files, ok := openFiles(); ok {
		// A client and its backend have a connection each.
		if need := uint64(2*min(d.file.Proxy.Limits.Conns, 1024) + 64); files < need {
			say("open files", levelWarn, fmt.Sprintf("a process may have %d open; %d connections need %d", files, min(d.file.Proxy.Limits.Conns, 1024), need), "ulimit -n 65536")
		} else {
			say("open files", levelPass, fmt.Sprintf("a process may have %d open", files), "")
		}
	}
	if memory := totalMemory(); memory > 0 && d.near() {
		gib := memory >> 30
		level, text := levelNote, fmt.Sprintf("this machine has %d GiB of memory", gib)
		if gib < 24 {
			text += ": enough for small models and lighter prompts. An agent's prompts and tools want a large model and a window of 32k and more, on a box with more (docs/local-models.md)"
		}
		say("memory", level, text, "")
	}
	if inWSL2() && d.has(catalog.KindOllama) {
		say("WSL2", levelWarn, "Ollama's service has Restart=always: on WSL2 with a GPU it can load its last model at each start, pin the host's memory, and have the VM restart in a loop", "sudo systemctl disable ollama")
	}
	d.pinned(say)
}

// pinned names the models that are to stay in memory for ever.
func (d *doctor) pinned(say func(check, level, text, fix string)) {
	var forever []string
	for ref, w := range d.file.Proxy.Warm {
		if w.Keep == 0 && (w.Start || w.Knock) {
			forever = append(forever, ref)
		}
	}
	if len(forever) > 1 {
		say("pinned memory", levelWarn, strings.Join(forever, ", ")+" are kept warm for as long as the proxy runs: together they must fit into the memory of their boxes", "")
	}
}

func (d *doctor) near() bool {
	for _, b := range d.snap.Backends {
		if b.Near && catalog.PlaceOf(b.BaseURL) == catalog.PlaceLoopback {
			return true
		}
	}
	return false
}

func (d *doctor) has(kind catalog.Kind) bool {
	for _, p := range d.snap.Catalog.Providers {
		if p.Kind == kind && p.Near {
			return true
		}
	}
	return false
}

// listen says whether the proxy could listen where it is to, and looks at its own
// certificate.
func (d *doctor) listen() {
	at := d.file.Proxy.Listen
	say := func(check, level, text, fix string) {
		d.say(finding{Area: "listen", Check: check, Level: level, Text: text, Fix: fix})
	}
	ln, err := net.Listen("tcp", at)
	switch {
	case err == nil:
		ln.Close()
		say("address", levelPass, at+" is free", "")
	case errors.Is(err, syscall.EADDRINUSE):
		if d.ours() {
			say("address", levelPass, "a nearside listens at "+at, "")
		} else {
			say("address", levelFail, "another program listens at "+at, "nearside config set proxy.listen "+shell(otherPort(at)))
		}
	case errors.Is(err, syscall.EACCES):
		say("address", levelFail, at+": ports below 1024 need a privilege", "nearside config set proxy.listen "+shell(otherPort(at)))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		say("address", levelFail, at+" is no address of this machine", "nearside config set proxy.listen 127.0.0.1:4141")
	default:
		say("address", levelFail, err.Error(), "")
	}
	if host, _, err := net.SplitHostPort(at); err == nil && catalog.PlaceOf("http://"+at) != catalog.PlaceLoopback && d.file.Certificate == nil {
		say("encryption", levelWarn, "whoever is on the network of "+host+" can read what is said: there is no certificate (proxy.tls)", "")
	}
	if c := d.file.Certificate; c != nil && len(c.Certificate) > 0 {
		if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil {
			level, text := expiry(leaf, time.Now())
			say("certificate", level, text, "")
		}
		if info, err := os.Stat(d.file.Proxy.TLSKey); err == nil && info.Mode().Perm()&0o077 != 0 {
			say("certificate's key", levelWarn, fmt.Sprintf("others on this machine may read %s (mode %04o)", d.file.Proxy.TLSKey, info.Mode().Perm()), "chmod 600 "+shell(d.file.Proxy.TLSKey))
		}
	}
}

// ours says whether what listens is a proxy of ours.
func (d *doctor) ours() bool {
	base, insecure, err := listensAt(&d.file.Proxy)
	if err != nil {
		return false
	}
	client := directClient(insecure)
	defer client.CloseIdleConnections()
	client.Timeout = 3 * time.Second
	resp, err := client.Get(base + "/healthz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return strings.HasPrefix(strings.ToLower(resp.Header.Get("Server")), "nearside")
}

// otherPort is a like address with another port.
func otherPort(at string) string {
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return "127.0.0.1:4142"
	}
	return net.JoinHostPort(host, "4142")
}

// expiry judges a certificate's end.
func expiry(leaf *x509.Certificate, now time.Time) (level, text string) {
	left := leaf.NotAfter.Sub(now)
	text = fmt.Sprintf("the certificate of %s is good until %s", strings.Join(append(leaf.DNSNames, ips(leaf)...), ", "), leaf.NotAfter.Format(time.DateOnly))
	switch {
	case left <= 0:
		return levelFail, strings.Replace(text, "is good until", "ran out on", 1)
	case left < 14*24*time.Hour:
		return levelWarn, text + ": renew it"
	}
	return levelPass, text
}

func ips(leaf *x509.Certificate) (all []string) {
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

// Below these there is little, and too little, room on a disk.
const (
	freeWarn = 1 << 30
	freeFail = 64 << 20
)

// data looks at the folder that outlives a restart. Nothing is opened for writing.
func (d *doctor) data(ctx context.Context) {
	dir := d.file.Proxy.DataDir
	say := func(check, level, text, fix string) {
		d.say(finding{Area: "data", Check: check, Level: level, Text: text, Fix: fix})
	}
	info, err := os.Stat(dir)
	at := dir
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at { // it would be made there
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	switch {
	case err != nil:
		say("folder", levelFail, err.Error(), "")
		return
	case !info.IsDir():
		say("folder", levelFail, at+" is no folder", "")
		return
	case !mayWrite(at):
		say("folder", levelFail, at+" cannot be written to: nothing would outlive a restart", "nearside config set proxy.dataDir "+shell("~/nearside"))
		return
	case at != dir:
		say("folder", levelPass, dir+" will be made", "")
	case info.Mode().Perm()&0o077 != 0:
		say("folder", levelWarn, fmt.Sprintf("others on this machine may look into %s (mode %04o)", dir, info.Mode().Perm()), "chmod 700 "+shell(dir))
	default:
		say("folder", levelPass, dir+" can be written to, and by nobody else", "")
	}
	if free, ok := freeSpace(at); ok {
		level := levelPass
		if free < freeFail {
			level = levelFail
		} else if free < freeWarn {
			level = levelWarn
		}
		say("space", level, fmt.Sprintf("%.1f GiB are free there", float64(free)/(1<<30)), "")
	}
	for _, name := range []string{storeFile, ledgerFile} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			continue // not kept, or not yet
		}
		if info.Mode().Perm()&0o077 != 0 {
			say(name, levelWarn, fmt.Sprintf("others on this machine may read it (mode %04o)", info.Mode().Perm()), "chmod 600 "+shell(path))
		}
		switch err := soundSQLite(ctx, path); {
		case errors.Is(err, context.DeadlineExceeded):
			say(name, levelWarn, "it is too large to be looked through in 10 s", "")
		case err != nil:
			say(name, levelFail, path+" is damaged: "+err.Error(), "mv "+shell(path)+" "+shell(path+".damaged"))
		default:
			say(name, levelPass, fmt.Sprintf("is sound (%d KiB)", info.Size()>>10), "")
		}
	}
	if info, err := os.Stat(filepath.Join(dir, sealKeyFile)); err == nil && info.Mode().Perm()&0o077 != 0 {
		say(sealKeyFile, levelWarn, fmt.Sprintf("others on this machine may read it (mode %04o)", info.Mode().Perm()), "chmod 600 "+shell(filepath.Join(dir, sealKeyFile)))
	}
}

// soundSQLite has SQLite look through a file without changing it or the files
// beside it.
func soundSQLite(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	slashed := filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		slashed = "/" + slashed
	}
	address := "file:" + (&url.URL{Path: slashed}).EscapedPath() + "?mode=ro&_pragma=busy_timeout(2000)&_pragma=trusted_schema(0)"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		address += "&immutable=1" // nobody has it open: nothing need be put beside it
	}
	db, err := sql.Open("sqlite", address)
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	return nil
}
