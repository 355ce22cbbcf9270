package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// tlsFileBytesMax bounds a certificate or key file; a bundle of all public
// authorities is a quarter of it.
const tlsFileBytesMax = 1 << 20

// tlsSessionsMax is how many sessions a backend keeps for a quicker handshake.
const tlsSessionsMax = 16

// Config returns what a connection to host needs for TLS: 1.2 at least,
// HTTP/1.1 only, the host's certificate always verified. With CA set only those
// authorities are trusted. It reads files, so it is called when a configuration
// is taken into use, not for a connection; the result may be shared. Errors
// name the setting below the provider and never show a key.
func (t TLS) Config(host string) (*tls.Config, error) {
	name := strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if t.ServerName != "" {
		name = t.ServerName
	}
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         name,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessionsMax),
	}
	if t.CA != "" {
		pem, err := tlsText(t.CA)
		if err != nil {
			return nil, fmt.Errorf("request.tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("request.tls.ca: no certificate in PEM form found there")
		}
	}
	switch {
	case t.Cert == "" && t.Key == "":
		return c, nil
	case t.Cert == "":
		return nil, errors.New("request.tls.cert: missing beside request.tls.key")
	case t.Key == "":
		return nil, errors.New("request.tls.key: missing beside request.tls.cert")
	}
	cert, err := tlsText(t.Cert)
	if err != nil {
		return nil, fmt.Errorf("request.tls.cert: %w", err)
	}
	key, err := tlsText(t.Key)
	if err != nil {
		// Not the name of the file: a key pasted without its BEGIN line would
		// be printed for one.
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("request.tls.key: neither PEM text nor a readable file: %w", err)
	}
	if key, err = plainKey(key, t.Passphrase); err != nil {
		return nil, fmt.Errorf("request.tls.key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("request.tls.cert and request.tls.key: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// tlsText returns a setting that is PEM text as it is, and reads any other as
// the name of a file.
func tlsText(value string) ([]byte, error) {
	if strings.Contains(value, "-----BEGIN ") {
		return []byte(value), nil
	}
	f, err := os.Open(strings.TrimPrefix(value, "file:"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, tlsFileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > tlsFileBytesMax {
		return nil, fmt.Errorf("the file is larger than %d bytes", tlsFileBytesMax)
	}
	return text, nil
}
