package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/mattn/go-isatty"
)

// prompts asks a person on a terminal. Where there is none, or nobody is to be
// asked, every question has the answer that it suggests.
type prompts struct {
	asks  bool
	ctx   context.Context
	in    io.Reader
	out   io.Writer
	lines chan string // nil until the first question; closed at the end of input
}

// newPrompts asks on standard error, so that standard output stays a result.
func newPrompts(ctx context.Context, env *Env, quiet bool) *prompts {
	return &prompts{asks: !quiet && isTerminal(env.Stdin) && isTerminal(env.Stderr), ctx: ctx, in: env.Stdin, out: env.Stderr}
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// lineBytesMax bounds an answer.
const lineBytesMax = 64 << 10

// line returns the next line. A terminal cannot be read with a deadline, so one
// goroutine reads for as long as the process lives, and Ctrl-C does not wait for it.
func (p *prompts) line() (string, error) {
	if p.lines == nil {
		p.lines = make(chan string)
		go func() {
			defer close(p.lines)
			sc := bufio.NewScanner(p.in)
			sc.Buffer(nil, lineBytesMax)
			for sc.Scan() {
				select {
				case p.lines <- sc.Text():
				case <-p.ctx.Done():
					return
				}
			}
		}()
	}
	select {
	case line, ok := <-p.lines:
		if !ok {
			fmt.Fprintln(p.out)
			return "", exitError{ExitFailed, errors.New("the input ended before all was asked; nothing was written")}
		}
		return strings.TrimSpace(line), nil
	case <-p.ctx.Done():
		fmt.Fprintln(p.out)
		return "", errStopped
	}
}

// ask returns a line, or what is suggested for an empty one.
func (p *prompts) ask(question, suggested string) (string, error) {
	if !p.asks {
		return suggested, nil
	}
	if suggested != "" {
		question += " [" + suggested + "]"
	}
	fmt.Fprint(p.out, question+": ")
	line, err := p.line()
	if line == "" {
		line = suggested
	}
	return line, err
}

// yes asks until it hears yes or no.
func (p *prompts) yes(question string, suggested bool) (bool, error) {
	if !p.asks {
		return suggested, nil
	}
	choice := " [y/N] "
	if suggested {
		choice = " [Y/n] "
	}
	for {
		fmt.Fprint(p.out, question+choice)
		line, err := p.line()
		if err != nil {
			return false, err
		}
		switch strings.ToLower(line) {
		case "":
			return suggested, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// choose asks for one of several by its number; the first is suggested.
func (p *prompts) choose(question string, of []string) (int, error) {
	if !p.asks || len(of) < 2 {
		return 0, nil
	}
	for i, one := range of {
		fmt.Fprintf(p.out, "  %2d  %s\n", i+1, one)
	}
	for {
		line, err := p.ask(question, "1")
		if err != nil {
			return 0, err
		}
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(of) {
			return n - 1, nil
		}
		for i, one := range of {
			if one == line {
				return i, nil
			}
		}
	}
}
