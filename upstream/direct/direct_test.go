package direct

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a connection over a socket.
func pair(t testing.TB) (ours Conn, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		far.Close()
	})
	ours = Of(c)
	if runtime.GOOS == "linux" && ours.direct == nil {
		t.Fatal("a TCP connection is not read directly")
	}
	return ours, far.(*net.TCPConn)
}

func text(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}

// What is written arrives, in pieces of any size, also when the other side reads late
// and when there is more than goes in one call.
func TestBytesPass(t *testing.T) {
	for _, n := range []int{1, 1000, 64 << 10, BytesMax, BytesMax + 1, 8 << 20} {
		ours, theirs := pair(t)
		want := text(n)
		wrote := make(chan error, 1)
		go func() {
			k, err := ours.Write(want)
			if err == nil && k != n {
				err = io.ErrShortWrite
			}
			wrote <- err
		}()
		got := make([]byte, n)
		if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := <-wrote; err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		go func() {
			_, err := theirs.Write(want)
			wrote <- err
		}()
		clear(got)
		if _, err := io.ReadFull(&ours, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes back: %v", n, err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever ends a call says so as net's connection does.
func TestErrorsAreThoseOfNet(t *testing.T) {
	short := make([]byte, 10)
	past := time.Unix(1, 0)
	for _, c := range []struct {
		name string
		do   func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error
		call func(net.Conn) error
		is   error
	}{
		{"end", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			theirs.Close()
			return call(&ours)
		}, readOne, io.EOF},
		{"reset", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = theirs.SetLinger(0)
			theirs.Close()
			return call(&ours)
		}, readOne, syscall.ECONNRESET},
		{"read late", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = ours.SetReadDeadline(past)
			return call(&ours)
		}, readOne, os.ErrDeadlineExceeded},
		{"read late, waiting", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = ours.SetReadDeadline(time.Now().Add(time.Millisecond))
			return call(&ours)
		}, readOne, os.ErrDeadlineExceeded},
		{"write late, waiting", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = ours.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			return call(&ours)
		}, flood, os.ErrDeadlineExceeded},
		{"write late", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = ours.SetWriteDeadline(past)
			return call(&ours)
		}, writeOne, os.ErrDeadlineExceeded},
		{"read closed", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			ours.Close()
			return call(&ours)
		}, readOne, net.ErrClosed},
		{"write closed", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			ours.Close()
			return call(&ours)
		}, writeOne, net.ErrClosed},
		{"write to one who has gone", func(ours Conn, theirs *net.TCPConn, call func(net.Conn) error) error {
			_ = theirs.SetLinger(0)
			theirs.Close()
			_ = readOne(&ours)
			return call(&ours)
		}, flood, syscall.EPIPE},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := pair(t)
			got := c.do(ours, theirs, c.call)
			plain, far := pair(t)
			plain.direct = nil
			want := c.do(plain, far, c.call)
			if !errors.Is(got, c.is) || !errors.Is(want, c.is) {
				t.Fatalf("got %v, net says %v, want one that is %v", got, want, c.is)
			}
			var a, b net.Error
			if errors.As(got, &a) != errors.As(want, &b) || a != nil && a.Timeout() != b.Timeout() {
				t.Errorf("a timeout: got %v, net says %v", got, want)
			}
			if said(got) != said(want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if _, err := ours.Read(short[:0]); err != nil && c.call != nil && !errors.Is(err, c.is) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("a read of nothing: %v", err)
			}
		})
	}
}

func readOne(c net.Conn) error {
	_, err := c.Read(make([]byte, 10))
	return err
}

func writeOne(c net.Conn) error {
	_, err := c.Write([]byte("x"))
	return err
}

// flood writes until it fails: more than two sockets hold.
func flood(c net.Conn) error {
	for range 1000 {
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			return err
		}
	}
	return nil
}

// said is an error without its ports.
func said(err error) string {
	words := strings.Fields(err.Error())
	for i, w := range words {
		if strings.Contains(w, "127.0.0.1:") {
			words[i] = "address"
		}
	}
	return strings.Join(words, " ")
}

// A close ends calls that wait.
func TestCloseEndsWaiting(t *testing.T) {
	for name, call := range map[string]func(net.Conn) error{"read": readOne, "write": flood} {
		ours, _ := pair(t)
		done := make(chan error, 1)
		go func() { done <- call(&ours) }()
		time.AfterFunc(time.Millisecond, func() { ours.Close() })
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the socket does not take at once is left to the caller, in order.
func TestWriteNowTakesWhatGoes(t *testing.T) {
	ours, theirs := pair(t)
	if ours.direct == nil {
		t.Skip("not on this system")
	}
	_ = ours.Conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
	want, sent := text(64<<20), 0
	var got bytes.Buffer
	for full := false; !full; {
		piece := min(BytesMax, len(want)-sent)
		n, ok, err := ours.WriteNow(net.Buffers{want[sent : sent+100], nil, want[sent+100 : sent+piece]})
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		sent += n
		full = n == 0 // and nobody waited
	}
	if _, err := io.CopyN(&got, theirs, int64(sent)); err != nil || !bytes.Equal(got.Bytes(), want[:sent]) {
		t.Fatalf("%d bytes: %v", sent, err)
	}
	if n, ok, err := ours.WriteNow(net.Buffers{want[:BytesMax], want[:1]}); n != 0 || ok || err != nil {
		t.Errorf("more than goes directly: %d %v %v", n, ok, err)
	}
	if n, ok, err := ours.WriteNow(make(net.Buffers, piecesMax+1)); n != 0 || ok || err != nil {
		t.Errorf("too many pieces: %d %v %v", n, ok, err)
	}
	ours.Close()
	if _, _, err := ours.WriteNow(net.Buffers{want[:1]}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// What is no TCP connection is read and written as it is.
func TestOthersPass(t *testing.T) {
	a, b := net.Pipe()
	ours := Of(a)
	go func() { _, _ = ours.Write([]byte("hello")) }()
	p := make([]byte, 5)
	if _, err := io.ReadFull(b, p); err != nil || string(p) != "hello" {
		t.Fatal(string(p), err)
	}
	if _, ok, _ := ours.WriteNow(net.Buffers{p}); ok {
		t.Error("a pipe is written directly")
	}
}

// BenchmarkTurn is one write and one read beside those of net's connection.
func BenchmarkTurn(b *testing.B) {
	for _, name := range []string{"net", "direct"} {
		b.Run(name, func(b *testing.B) {
			ours, theirs := pair(b)
			if name == "net" {
				ours.direct = nil
			}
			p := make([]byte, 1000)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ours.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(theirs, p); err != nil {
					b.Fatal(err)
				}
				if _, err := theirs.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := ours.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
