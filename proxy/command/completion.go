package command

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/alecthomas/kong"

	"nearside/proxy/config"
	"nearside/upstream/sim"
)

// Completion prints a completion script.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help teaches how to use the scripts.
func (Completion) Help() string {
	return `	bash:  source <(nearside completion bash)      # in ~/.bashrc
	zsh:   source <(nearside completion zsh)       # in ~/.zshrc, after compinit
	fish:  nearside completion fish > ~/.config/fish/completions/nearside.fish

Exit codes: 0; 2 a shell that is not known.`
}

// Run prints the script.
func (c *Completion) Run(env *Env, ctx *kong.Context) error {
	words := wordsOf(ctx.Model)
	var b strings.Builder
	switch c.Shell {
	case "bash":
		bashScript(&b, words)
	case "zsh":
		zshScript(&b, words)
	case "fish":
		fishScript(&b, words)
	}
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

// word is one command or flag that can be completed.
type word struct {
	name, help string
	short      rune
	values     []string // of a flag or an argument; nil for free text
	file       bool     // takes a file
	takes      bool     // a flag with a value
	flags      []word   // of a command
	args       []word
	subs       []word // commands below a command, whose names begin with its own
}

// wordsOf returns the commands with their flags.
func wordsOf(app *kong.Application) []word { return wordsBelow(app.Node, "") }

func wordsBelow(parent *kong.Node, prefix string) []word {
	var all []word
	for _, n := range parent.Children {
		if n.Hidden || n.Type != kong.CommandNode {
			continue
		}
		w := word{name: prefix + n.Name, help: n.Help}
		seen := map[string]bool{}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				if seen[f.Name] { // of the command above
					continue
				}
				seen[f.Name] = true
				w.flags = append(w.flags, word{name: f.Name, help: f.Help, short: f.Short, values: valuesOf(w.name, f.Value), file: f.PlaceHolder == "FILE", takes: !f.IsBool()})
			}
		}
		for _, p := range n.Positional {
			w.args = append(w.args, word{name: p.Name, help: p.Help, values: valuesOf(w.name, p), file: p.Name == "file"})
		}
		w.subs = wordsBelow(n, w.name+" ")
		all = append(all, w)
	}
	return all
}

// last is the word itself, without the command that it is below.
func (w word) last() string { return w.name[strings.LastIndexByte(w.name, ' ')+1:] }

// flat returns words and all below them.
func flat(words []word) []word {
	var all []word
	for _, w := range words {
		all = append(append(all, w), flat(w.subs)...)
	}
	return all
}

// valuesOf returns what a flag or argument can be; nil for free text.
func valuesOf(command string, v *kong.Value) []string {
	switch {
	case command == "sim" && v.Name == "profile":
		var all []string
		for _, p := range sim.Profiles() {
			all = append(all, string(p))
		}
		return all
	case command == "sim" && v.Name == "fault":
		var all []string
		for _, f := range faults() {
			all = append(all, f.name)
		}
		return all
	case strings.HasPrefix(command, "config ") && v.Name == "path":
		var all []string
		for _, set := range config.Settings() {
			if !strings.Contains(set.Path, "<") {
				all = append(all, set.Path)
			}
		}
		return all
	case v.Enum == "":
		return nil
	}
	var all []string
	for e := range v.EnumMap() {
		if e != "" {
			all = append(all, e)
		}
	}
	sort.Strings(all)
	return all
}

func names(words []word, prefix string) string {
	var all []string
	for _, w := range words {
		all = append(all, prefix+w.last())
	}
	return strings.Join(all, " ")
}

// pattern is a command's name in a case of a shell.
func (w word) pattern() string {
	if strings.Contains(w.name, " ") {
		return `"` + w.name + `"`
	}
	return w.name
}

// bashScript needs no bash-completion package: COMP_WORDS is all it reads.
func bashScript(b *strings.Builder, words []word) {
	var patterns []string
	for _, w := range flat(words) {
		patterns = append(patterns, w.pattern())
	}
	fmt.Fprintf(b, `# bash completion for nearside
_nearside() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="" cmd="" i
  [ "$COMP_CWORD" -gt 0 ] && prev="${COMP_WORDS[COMP_CWORD-1]}"
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$cmd${cmd:+ }${COMP_WORDS[i]}" in
      %s) cmd="$cmd${cmd:+ }${COMP_WORDS[i]}" ;;
    esac
  done
  COMPREPLY=()
  case "$cmd:$prev" in
`, strings.Join(patterns, "|"))
	for _, w := range flat(words) {
		for _, f := range w.flags {
			if !f.takes {
				continue
			}
			at := w.pattern() + ":--" + f.name
			if f.short != 0 {
				at += "|" + w.pattern() + ":-" + string(f.short)
			}
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", at, strings.Join(f.values, " "))
			case f.file:
				fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", at)
			default:
				fmt.Fprintf(b, "    %s) return ;;\n", at)
			}
		}
	}
	b.WriteString("  esac\n  case \"$cmd\" in\n")
	fmt.Fprintf(b, "    \"\") COMPREPLY=($(compgen -W %q -- \"$cur\")) ;;\n", names(words, "")+" --help")
	for _, w := range flat(words) {
		list := names(w.subs, "") + " " + names(w.flags, "--")
		file := false
		for _, a := range w.args {
			list += " " + strings.Join(a.values, " ")
			file = file || a.file
		}
		fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -W %q -- \"$cur\"))", w.pattern(), strings.TrimSpace(list))
		if file {
			b.WriteString("\n      [[ $cur == -* ]] || COMPREPLY+=($(compgen -f -- \"$cur\"))")
		}
		b.WriteString(" ;;\n")
	}
	b.WriteString("  esac\n}\ncomplete -o filenames -F _nearside nearside\n")
}

func zshScript(b *strings.Builder, words []word) {
	b.WriteString("#compdef nearside\n# zsh completion for nearside\n_nearside() {\n  local -a commands\n")
	zshCommands(b, words, "  ")
	b.WriteString("}\ncompdef _nearside nearside\n")
}

// zshCommands completes a command at the second word, and what belongs to it
// behind that.
func zshCommands(b *strings.Builder, words []word, indent string) {
	line := func(format string, args ...any) { fmt.Fprintf(b, indent+format+"\n", args...) }
	line("commands=(")
	for _, w := range words {
		line("  %s", quoted(w.last()+":"+w.help))
	}
	line(")")
	line("if (( CURRENT == 2 )); then")
	line("  _describe command commands")
	line("  return")
	line("fi")
	line("shift words")
	line("(( CURRENT-- ))")
	line("case $words[1] in")
	for _, w := range words {
		if len(w.subs) > 0 {
			line("  %s)", w.last())
			zshCommands(b, w.subs, indent+"    ")
			line("    ;;")
			continue
		}
		b.WriteString(indent + "  " + w.last() + ") _arguments")
		for _, f := range w.flags {
			spec := "--" + f.name + "[" + zshText(f.help) + "]"
			if f.takes {
				spec = "--" + f.name + "=[" + zshText(f.help) + "]:" + f.name + ":" + zshAction(f)
			}
			b.WriteString(" \\\n" + indent + "    " + quoted(spec))
		}
		for i, a := range w.args {
			fmt.Fprintf(b, " \\\n%s    %s", indent, quoted(fmt.Sprintf("%d:%s:%s", i+1, a.name, zshAction(a))))
		}
		b.WriteString(" ;;\n")
	}
	line("esac")
}

// zshText makes a help text safe inside the brackets of an _arguments spec.
func zshText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
}

func zshAction(w word) string {
	switch {
	case len(w.values) > 0:
		return "(" + strings.Join(w.values, " ") + ")"
	case w.file:
		return "_files"
	}
	return " "
}

func fishScript(b *strings.Builder, words []word) {
	b.WriteString("# fish completion for nearside\ncomplete -c nearside -f\n")
	fishCommands(b, words, "__fish_use_subcommand", "")
}

// fishCommands completes commands where when holds; above is what holds of the
// command that they are below.
func fishCommands(b *strings.Builder, words []word, when, above string) {
	for _, w := range words {
		fmt.Fprintf(b, "complete -c nearside -n %s -a %s -d %s\n", quotedUnlessWord(when), w.last(), quoted(w.help))
		seen := above + "__fish_seen_subcommand_from " + w.last()
		from := quoted(seen)
		for _, f := range w.flags {
			fmt.Fprintf(b, "complete -c nearside -n %s -l %s", from, f.name)
			if f.short != 0 {
				fmt.Fprintf(b, " -s %c", f.short)
			}
			switch {
			case len(f.values) > 0:
				fmt.Fprintf(b, " -x -a %s", quoted(strings.Join(f.values, " ")))
			case f.file:
				b.WriteString(" -r -F")
			case f.takes:
				b.WriteString(" -x")
			}
			fmt.Fprintf(b, " -d %s\n", quoted(f.help))
		}
		for _, a := range w.args {
			switch {
			case len(a.values) > 0:
				fmt.Fprintf(b, "complete -c nearside -n %s -a %s\n", from, quoted(strings.Join(a.values, " ")))
			case a.file:
				fmt.Fprintf(b, "complete -c nearside -n %s -F\n", from)
			}
		}
		if len(w.subs) > 0 {
			fishCommands(b, w.subs, seen+"; and not __fish_seen_subcommand_from "+names(w.subs, ""), seen+"; and ")
		}
	}
}

func quotedUnlessWord(s string) string {
	if strings.Contains(s, " ") {
		return quoted(s)
	}
	return s
}

// quoted is a text in single quotes, for all three shells.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
