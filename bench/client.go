package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

const (
	clientBuffer   = 16 << 10
	headLinesMax   = 100
	refusalBytes   = 300              // of a refusal's body, for the error
	clientPatience = 30 * time.Second // for anything at all to happen
)

// client is one keep-alive connection of the load generator. It does as little
// as a client can: the generator shares the machine with what it measures.
type client struct {
	c      net.Conn
	br     *bufio.Reader
	events *counter // gets the number of events as they arrive; may be nil
	last   byte     // of the body so far
	buf    []byte   // of chunkBytes
}

func dial(addr string) (*client, error) {
	c, err := net.DialTimeout("tcp", addr, clientPatience)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(2 * clientPatience)); err != nil {
		c.Close()
		return nil, err
	}
	return &client{c: c, br: bufio.NewReaderSize(c, clientBuffer)}, nil
}

func (c *client) close() { c.c.Close() }

// do sends a request and reads the whole answer, which must be a 200.
func (c *client) do(request []byte) error {
	if _, err := c.c.Write(request); err != nil {
		return err
	}
	return c.answer()
}

// answer reads one whole answer.
func (c *client) answer() error {
	chunked, length, err := c.head()
	if err != nil {
		return err
	}
	if !chunked {
		_, err = c.br.Discard(length)
		return err
	}
	for {
		n, err := c.chunk()
		if err != nil || n == 0 {
			return err
		}
	}
}

// head reads the head of an answer.
func (c *client) head() (chunked bool, length int, err error) {
	c.last = 0
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return false, 0, fmt.Errorf("read status: %w", err)
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 200"))
	status := ""
	if !ok {
		status = string(bytes.TrimSpace(line))
	}
	length = -1
	for range headLinesMax {
		if line, err = c.br.ReadSlice('\n'); err != nil {
			return false, 0, fmt.Errorf("read head: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return false, 0, err
			}
		case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked"))
		}
	}
	if !ok {
		p, _ := io.ReadAll(io.LimitReader(c.br, int64(min(max(length, 0), refusalBytes)))) // a part of the reason is enough
		return false, 0, fmt.Errorf("answered %s: %s", status, p)
	}
	if !chunked && length < 0 {
		return false, 0, errors.New("an answer without a length")
	}
	return chunked, length, nil
}

// chunk reads one chunk and returns its size; 0 is the end of the body.
func (c *client) chunk() (int, error) {
	n, err := c.size()
	if err != nil {
		return 0, err
	}
	if err := c.take(n); err != nil {
		return 0, fmt.Errorf("read chunk: %w", err)
	}
	_, err = c.br.Discard(2)
	return n, err
}

// size reads the line before a chunk.
func (c *client) size() (int, error) {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("read chunk: %w", err)
	}
	digits, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 31)
	if err != nil {
		return 0, fmt.Errorf("read chunk: %w", err)
	}
	return int(n), nil
}

func (c *client) full(p []byte) error {
	_, err := io.ReadFull(c.br, p)
	return err
}

// take reads n bytes of the body and counts the events that end in them.
func (c *client) take(n int) error {
	if c.events == nil {
		_, err := c.br.Discard(n)
		return err
	}
	for n > 0 {
		if _, err := c.br.Peek(1); err != nil {
			return err
		}
		p, err := c.br.Peek(min(n, c.br.Buffered()))
		if err != nil {
			return err
		}
		ends := bytes.Count(p, []byte("\n\n"))
		if c.last == '\n' && p[0] == '\n' {
			ends++
		}
		if ends > 0 {
			c.events.add(ends)
		}
		c.last = p[len(p)-1]
		n -= len(p)
		if _, err := c.br.Discard(len(p)); err != nil {
			return err
		}
	}
	return nil
}

// firstEvents reads an answer up to the end of its n-th event.
func (c *client) firstEvents(n int64) error {
	chunked, _, err := c.head()
	if err != nil {
		return err
	}
	if !chunked {
		return errors.New("the answer is not streamed")
	}
	for c.events.n.Load() < n {
		size, err := c.chunk()
		if err != nil {
			return err
		}
		if size == 0 {
			return errors.New("the stream ended early")
		}
	}
	return nil
}
