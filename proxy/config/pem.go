package config

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"nearside/upstream"
)

// pemBytes bounds a certificate or key file, as upstream does.
const pemBytes = 1 << 20

// watched reads a file that belongs to the configuration: it is watched, and
// its content counts for the digest.
func (l *loader) watched(file string, limit int) ([]byte, error) {
	i := slices.Index(l.files, file)
	if i < 0 {
		i = len(l.files)
		l.files = append(l.files, file)
		l.contents = append(l.contents, nil)
	}
	src, err := l.readFile(file, limit)
	if err == nil {
		l.contents[i] = src
	}
	return src, err
}

// pem returns the PEM text of a setting, which is the text itself or the name
// of its file. The file's name is not repeated: the problem has its place, and
// a key pasted without its first line would be shown for one.
func (l *loader) pem(n node, text string) (string, bool) {
	if text == "" || strings.Contains(text, "-----BEGIN ") {
		return text, true
	}
	src, err := l.watched(l.file(strings.TrimPrefix(text, "file:")), pemBytes)
	switch {
	case err != nil:
		l.at(n.pos(), n.path, "is neither PEM text nor a file that can be read: %s", plain(err))
		return "", false
	case !strings.Contains(string(src), "-----BEGIN "):
		l.at(n.pos(), n.path, "names a file that is not in PEM form")
		return "", false
	}
	return string(src), true
}

// clientTLS reads request.tls. The texts of the files are kept rather than
// their names, so that a renewed file is another configuration of its backend.
func (l *loader) clientTLS(n node) upstream.TLS {
	usable := true
	read := func(name string) string {
		text, ok := l.secret(n.get(name))
		if ok {
			text, ok = l.pem(n.get(name), text)
		}
		usable = usable && ok
		return text
	}
	passphrase, ok := l.secret(n.get("passphrase"))
	t := upstream.TLS{CA: read("ca"), Cert: read("cert"), Key: read("key"),
		ServerName: strings.TrimSpace(n.get("serverName").text()), Passphrase: upstream.NewSecret(passphrase)}
	if n.get("cert").there() != n.get("key").there() {
		l.at(n.pos(), n.path, "cert and key belong together")
		return t
	}
	if !usable || !ok {
		return t
	}
	if _, err := t.Config("localhost"); err != nil {
		// It begins with the setting at fault: request.tls.ca: ….
		setting, text, _ := strings.Cut(err.Error(), ": ")
		at := n.get(strings.TrimPrefix(setting, "request.tls."))
		if !at.there() { // cert and key, which do not belong together
			at, text = n, err.Error()
		}
		l.at(at.pos(), at.path, "%s", text)
	}
	return t
}

// clientCA reads proxy.tls.clientCA; nil for none or when a problem was reported.
func (l *loader) clientCA(n node) *x509.CertPool {
	at := n.get("clientCA")
	if at.there() && !n.get("cert").there() {
		l.at(at.pos(), at.path, "needs cert and key: without TLS there are no certificates")
		return nil
	}
	text, ok := l.pem(at, at.text())
	if !ok || text == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		l.at(at.pos(), at.path, "holds no certificate")
		return nil
	}
	return pool
}

// expiresSoon is from when on a certificate's end is told.
const expiresSoon = 21 * 24 * time.Hour

// certificate reads proxy.tls; nil for none or when a problem was reported.
func (l *loader) certificate(n node) *tls.Certificate {
	if n.get("cert").there() != n.get("key").there() {
		l.at(n.pos(), n.path, "cert and key belong together")
		return nil
	}
	cert, ok := l.pem(n.get("cert"), n.get("cert").text())
	key, keyOK := l.pem(n.get("key"), n.get("key").text())
	if !ok || !keyOK || cert == "" {
		return nil
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		l.at(n.pos(), n.path, "cert and key cannot be used: %s", strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	if left := time.Until(pair.Leaf.NotAfter); left < 0 {
		l.warn(n.pos(), n.path, "the certificate has expired on %s (nearside tls init renews one that it made)", pair.Leaf.NotAfter.Format(time.DateOnly))
	} else if left < expiresSoon {
		l.warn(n.pos(), n.path, "the certificate expires on %s (nearside tls init renews one that it made)", pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &pair
}
