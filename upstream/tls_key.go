package upstream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"hash"
)

// keyIterationsMax bounds what a key file can make us compute.
const keyIterationsMax = 2_000_000

var (
	errKeyCipher     = errors.New("the key is encrypted in a way this version cannot read (PBES2 with AES-CBC and PBKDF2 it can)")
	errKeyPassphrase = errors.New("the passphrase in request.tls.passphrase does not open the key")
)

// plainKey decrypts the private key in text when it is encrypted; other blocks
// stay as they are.
func plainKey(text []byte, passphrase Secret) ([]byte, error) {
	var out []byte
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		encrypted := block.Type == "ENCRYPTED PRIVATE KEY"
		old := x509.IsEncryptedPEMBlock(block) //nolint:staticcheck // the old form is weak, and still what people have
		if (encrypted || old) && passphrase.IsZero() {
			return nil, errors.New("the key is encrypted: set request.tls.passphrase")
		}
		switch {
		case encrypted:
			der, err := openPKCS8(block.Bytes, passphrase, keyIterationsMax)
			if err != nil {
				return nil, err
			}
			block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
		case old:
			der, err := x509.DecryptPEMBlock(block, []byte(passphrase.Reveal())) //nolint:staticcheck // as above
			if err != nil {
				return nil, errKeyPassphrase
			}
			block = &pem.Block{Type: block.Type, Bytes: der}
		}
		out = append(out, pem.EncodeToMemory(block)...)
	}
	if out == nil {
		return nil, errors.New("no key in PEM form found there")
	}
	return out, nil
}

type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params  struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// openPKCS8 decrypts what openssl writes by default (RFC 8018, PBES2).
func openPKCS8(der []byte, passphrase Secret, iterationsMax int) ([]byte, error) {
	var k encryptedKey
	var p pbes2Params
	var d pbkdf2Params
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, errKeyCipher
	}
	if k.Algorithm.Algorithm.String() != "1.2.840.113549.1.5.13" {
		return nil, errKeyCipher
	}
	if _, err := asn1.Unmarshal(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, errKeyCipher
	}
	if p.Derivation.Algorithm.String() != "1.2.840.113549.1.5.12" {
		return nil, errKeyCipher
	}
	if _, err := asn1.Unmarshal(p.Derivation.Parameters.FullBytes, &d); err != nil {
		return nil, errKeyCipher
	}
	var prf func() hash.Hash
	switch d.PRF.Algorithm.String() {
	case "", "1.2.840.113549.2.7":
		prf = sha1.New
	case "1.2.840.113549.2.9":
		prf = sha256.New
	case "1.2.840.113549.2.10":
		prf = sha512.New384
	case "1.2.840.113549.2.11":
		prf = sha512.New
	default:
		return nil, errKeyCipher
	}
	length := 0
	switch p.Cipher.Algorithm.String() {
	case "2.16.840.1.101.3.4.1.2":
		length = 16
	case "2.16.840.1.101.3.4.1.22":
		length = 24
	case "2.16.840.1.101.3.4.1.42":
		length = 32
	default:
		return nil, errKeyCipher
	}
	var iv []byte
	if _, err := asn1.Unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, errKeyCipher
	}
	n := len(k.Data)
	if len(iv) != aes.BlockSize || n == 0 || n%aes.BlockSize != 0 || d.Iterations < 1 || d.Iterations > iterationsMax {
		return nil, errKeyCipher
	}
	key, err := pbkdf2.Key(prf, passphrase.Reveal(), d.Salt, d.Iterations, length)
	if err != nil {
		return nil, errKeyCipher
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errKeyCipher
	}
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, k.Data)
	pad := int(plain[n-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errKeyPassphrase
	}
	plain = plain[:n-pad]
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, errKeyPassphrase
	}
	return plain, nil
}
