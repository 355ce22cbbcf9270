package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"nearside/proxy/config"
)

// Service installs the proxy as a service of the operating system.
type Service struct {
	ConfigFlag
	Action string `arg:"" enum:"install,uninstall,status" help:"install, uninstall or status."`

	User   bool   `xor:"scope" help:"For you alone, while you are logged in (systemd --user, a launch agent). The default, unless you are root."`
	System bool   `xor:"scope" help:"For the machine, from its start on. Needs root."`
	DryRun bool   `help:"Print what would be written and change nothing."`
	Force  bool   `help:"Replace or remove a file of that name that this command did not write."`
	For    string `enum:"systemd,launchd," default:"" help:"What manages services: systemd or launchd. Without it, what this system has."`
	Binary string `placeholder:"FILE" help:"The program to run. Without it, this one."`

	KeyFile    string   `placeholder:"FILE" help:"File with providers' keys as NAME=value, one a line (systemd's EnvironmentFile). Without it keys.env beside the configuration; it need not exist."`
	Credential []string `placeholder:"NAME=FILE" help:"A key that systemd alone may read, handed to the proxy as a file of that name (LoadCredential). May be given several times."`
}

// Help teaches what service does.
func (Service) Help() string {
	return `Writes a systemd unit or a launchd job that runs "nearside serve" with this configuration,
locked down as far as the proxy allows, and says what to type next. It starts and stops
nothing itself.

	nearside service install --dry-run
	nearside service install
	nearside service install --system --credential openai=/etc/nearside/openai.key
	nearside service status
	nearside service uninstall

Exit codes: 0 done; 1 it could not be written or removed, or (status) is not installed or
out of date; 2 bad flags or configuration.`
}

// serviceMark is in every file that this command writes; files without it are
// somebody else's.
const serviceMark = "Written by nearside service install"

// serviceName names the unit; launchd's labels are names of domains turned round.
const serviceName = "nearside"

// serviceFile is what is written and what it is made of.
type serviceFile struct {
	Mark      string
	Launchd   bool
	System    bool
	Path      string // of the file
	Binary    string
	Config    string // empty for the built-in defaults
	Data      string // of launchd; systemd makes it
	KeyFile   string
	Keys      []credential
	StopAfter int  // seconds that streams may take to finish
	LowPort   bool // needs the right to listen below 1024
	Logs      string
}

type credential struct{ Name, File string }

// Run does what is asked.
func (c *Service) Run(env *Env) error {
	f, err := c.placed(env)
	if err != nil {
		return err
	}
	// What is not there is said, and what is there goes, whatever has become of the
	// configuration and the program.
	switch _, err := os.Lstat(f.Path); {
	case c.Action == "uninstall":
		return c.uninstall(env, f)
	case c.Action == "status" && errors.Is(err, fs.ErrNotExist):
		return exitError{ExitFailed, fmt.Errorf("%s is not there: nearside service install", f.Path)}
	}
	text, err := c.compose(env, f)
	switch {
	case err != nil:
		return err
	case c.Action == "status":
		return c.status(env, f, text)
	case c.DryRun:
		fmt.Fprintf(env.Stderr, "would write %s\n", f.Path)
		_, err := env.Stdout.Write(text)
		return err
	}
	return c.install(env, f, text)
}

// placed says what manages the service, and where its file belongs.
func (c *Service) placed(env *Env) (f *serviceFile, err error) {
	f = &serviceFile{Mark: serviceMark, Launchd: c.For == "launchd" || c.For == "" && runtime.GOOS == "darwin"}
	f.System = c.System || !c.User && !f.Launchd && os.Geteuid() == 0
	switch {
	case c.For == "" && runtime.GOOS == "windows":
		return nil, usageError{errors.New("there is no service of Windows for it; use the Task Scheduler, or --for systemd in WSL")}
	case f.System && f.Launchd:
		return nil, usageError{errors.New("launchd would run it as root for all: install it for one user (--user)")}
	}
	f.Path, err = f.place(env)
	return f, err
}

// compose makes the file's text from the flags and the configuration.
func (c *Service) compose(env *Env, f *serviceFile) ([]byte, error) {
	file, _, err := env.load(c.Config)
	if err != nil {
		return nil, err
	}
	if len(file.Files) > 0 {
		if f.Config, err = filepath.Abs(file.Files[0]); err != nil {
			return nil, err
		}
	}
	if f.Binary, err = c.binary(); err != nil {
		return nil, err
	}
	if err := c.keys(f); err != nil {
		return nil, err
	}
	drain := file.Proxy.Drain
	f.StopAfter = int((drain.Announce + drain.Grace + 10*time.Second).Seconds())
	f.LowPort = lowPort(file)
	f.Data = file.Proxy.DataDir
	f.Logs = filepath.Join(f.Data, "log")
	usual, _ := config.Load("", env.configOptions())
	if f.System && f.Data != usual.Proxy.DataDir && f.Data != systemData { // the file's own word
		return nil, usageError{fmt.Errorf("proxy.dataDir is %s, and a service of the system writes to %s only: remove the setting, or set that", f.Data, systemData)}
	}
	if !f.Launchd && strings.ContainsAny(f.Binary, "\"'\\*?[") {
		return nil, usageError{fmt.Errorf("systemd runs no program with quotes, backslashes or patterns in its path: %s", f.Binary)}
	}
	if why := f.hidden(); why != "" {
		return nil, usageError{errors.New(why)}
	}
	return f.text()
}

// systemData is where systemd keeps what a service of the system stores.
const systemData = "/var/lib/" + serviceName

// lowPort says whether the port is one that needs a privilege.
func lowPort(file *config.Config) bool {
	_, text, err := net.SplitHostPort(file.Proxy.Listen)
	port, bad := strconv.Atoi(text)
	return err == nil && bad == nil && port > 0 && port < 1024
}

// binary returns the program that the service runs.
func (c *Service) binary() (string, error) {
	path := c.Binary
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find this program: %w (name it with --binary)", err)
		}
		path = self
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return "", usageError{fmt.Errorf("--binary: %s is no program that can be run", path)}
	}
	return path, nil
}

// place returns where the file belongs.
func (f *serviceFile) place(env *Env) (string, error) {
	switch home := env.Getenv("HOME"); {
	case f.System:
		return "/etc/systemd/system/" + serviceName + ".service", nil
	case home == "":
		return "", usageError{errors.New("$HOME is not set, where a service of your own belongs")}
	case f.Launchd:
		return filepath.Join(home, "Library", "LaunchAgents", serviceName+".plist"), nil
	default:
		base := env.Getenv("XDG_CONFIG_HOME")
		if base == "" {
			base = filepath.Join(home, ".config")
		}
		return filepath.Join(base, "systemd", "user", serviceName+".service"), nil
	}
}

var credentialName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// keys reads the flags that say where the providers' keys are.
func (c *Service) keys(f *serviceFile) (err error) {
	if f.Launchd && (c.KeyFile != "" || len(c.Credential) > 0) {
		return usageError{errors.New("--key-file and --credential are systemd's; with launchd put keys into a file that secrets.providers names (docs/service.md)")}
	}
	f.KeyFile = c.KeyFile
	if f.KeyFile == "" {
		dir := "/etc/nearside"
		if f.Config != "" {
			dir = filepath.Dir(f.Config)
		} else if !f.System {
			dir = "%E/nearside"
		}
		f.KeyFile = dir + "/keys.env"
	} else if f.KeyFile, err = filepath.Abs(f.KeyFile); err != nil {
		return err
	}
	for _, one := range c.Credential {
		name, file, ok := strings.Cut(one, "=")
		if !ok || !credentialName.MatchString(name) || file == "" {
			return usageError{fmt.Errorf("--credential: %q is not NAME=FILE", one)}
		}
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		f.Keys = append(f.Keys, credential{name, file})
	}
	return nil
}

// hidden says which file a system service of systemd could not see: it has no
// homes, and a /tmp of its own.
func (f *serviceFile) hidden() string {
	if f.Launchd || !f.System {
		return ""
	}
	for _, p := range []struct{ path, what, where string }{{f.Binary, "program", "/usr/local/bin"}, {f.Config, "configuration", "/etc/nearside"}} {
		for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
			if strings.HasPrefix(p.path, dir) {
				return fmt.Sprintf("the %s %s is in %s, which a service of the system does not see: copy it to %s and name it (--binary, --config)", p.what, p.path, strings.TrimSuffix(dir, "/"), p.where)
			}
		}
	}
	return ""
}

// text writes the file.
func (f *serviceFile) text() ([]byte, error) {
	for _, s := range []string{f.Binary, f.Config, f.KeyFile, f.Data} {
		if strings.ContainsAny(s, "\n\r\x00") {
			return nil, usageError{fmt.Errorf("%q cannot stand in a service's file", s)}
		}
	}
	var b bytes.Buffer
	t := systemdUnit
	if f.Launchd {
		t = launchdJob
	}
	if err := t.Execute(&b, f); err != nil {
		return nil, fmt.Errorf("BUG: write the service: %w", err)
	}
	return b.Bytes(), nil
}

// ours returns what is installed; an error when it is somebody else's.
func (c *Service) ours(path string) ([]byte, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(old, []byte(serviceMark)) && !c.Force {
		return nil, usageError{fmt.Errorf("%s was not written by this command; --force takes it all the same", path)}
	}
	return old, nil
}

func (c *Service) install(env *Env, f *serviceFile, text []byte) error {
	old, err := c.ours(f.Path)
	switch {
	case err == nil && bytes.Equal(old, text):
		fmt.Fprintf(env.Stdout, "%s is up to date\n", f.Path)
		f.next(env, false)
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return fmt.Errorf("install: %w%s", err, f.privileged())
	}
	temp, err := os.CreateTemp(filepath.Dir(f.Path), "."+serviceName+"-*")
	if err != nil {
		return fmt.Errorf("install: %w%s", err, f.privileged())
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := os.Rename(temp.Name(), f.Path); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	fmt.Fprintf(env.Stdout, "%s is written\n", f.Path)
	f.next(env, old != nil)
	return nil
}

func (f *serviceFile) privileged() string {
	if f.System && os.Geteuid() != 0 {
		return " (a service of the system needs root; --user installs one of your own)"
	}
	return ""
}

func (c *Service) uninstall(env *Env, f *serviceFile) error {
	if _, err := c.ours(f.Path); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(env.Stdout, "%s is not there\n", f.Path)
		return nil
	} else if err != nil {
		return err
	}
	if c.DryRun {
		fmt.Fprintf(env.Stdout, "would remove %s\n", f.Path)
		return nil
	}
	if err := os.Remove(f.Path); err != nil {
		return fmt.Errorf("uninstall: %w%s", err, f.privileged())
	}
	fmt.Fprintf(env.Stdout, "%s is removed\n", f.Path)
	fmt.Fprintln(env.Stdout, "next, to stop what still runs:")
	for _, line := range f.commands("off") {
		fmt.Fprintln(env.Stdout, "  "+line)
	}
	fmt.Fprintln(env.Stdout, "configuration, keys and data are left as they are")
	return nil
}

// commands are what the person types next.
func (f *serviceFile) commands(what string) []string {
	systemctl, journal := "systemctl", "journalctl -u "+serviceName+" -f"
	const domain = "gui/$(id -u)"
	if !f.System {
		systemctl, journal = "systemctl --user", "journalctl --user -u "+serviceName+" -f"
	}
	switch {
	case f.Launchd && what == "off":
		return []string{"launchctl bootout " + domain + "/" + serviceName}
	case f.Launchd && what == "again":
		return []string{"launchctl bootout " + domain + "/" + serviceName, "launchctl bootstrap " + domain + " " + f.Path}
	case f.Launchd:
		return []string{"mkdir -p " + f.Logs, "launchctl bootstrap " + domain + " " + f.Path, "launchctl print " + domain + "/" + serviceName}
	case what == "off":
		return []string{systemctl + " stop " + serviceName, systemctl + " daemon-reload"}
	case what == "again":
		return []string{systemctl + " daemon-reload", systemctl + " restart " + serviceName}
	}
	return []string{systemctl + " daemon-reload", systemctl + " enable --now " + serviceName, journal}
}

// next says what to do after an installation.
func (f *serviceFile) next(env *Env, again bool) {
	what := "on"
	if again {
		what = "again"
	}
	fmt.Fprintln(env.Stdout, "next:")
	for _, line := range f.commands(what) {
		fmt.Fprintln(env.Stdout, "  "+line)
	}
	if !f.System && !f.Launchd {
		fmt.Fprintln(env.Stdout, "  loginctl enable-linger            to have it run while you are logged out")
	}
	if !f.Launchd {
		fmt.Fprintf(env.Stdout, "keys of providers: %s, as NAME=value, mode 0600\n", strings.ReplaceAll(f.KeyFile, "%E", "~/.config"))
	}
	for _, k := range f.Keys {
		fmt.Fprintf(env.Stdout, "key %s: secrets.providers.%[1]s = { source: \"file\", path: \"${CREDENTIALS_DIRECTORY}/%[1]s\", mode: \"singleValue\" }, and apiKey: { source: \"file\", provider: \"%[1]s\", id: \"value\" }\n", k.Name)
	}
	if f.System && !f.Launchd && f.Config != "" {
		fmt.Fprintf(env.Stdout, "the service has a user of its own: %s must be readable by others (mode 0644), and hold no key\n", f.Config)
	}
}

// status says whether it is installed, as this command would write it now, and
// whether the system runs it.
func (c *Service) status(env *Env, f *serviceFile, text []byte) error {
	old, err := os.ReadFile(f.Path)
	if err != nil {
		return exitError{ExitFailed, err}
	}
	state := "as this command writes it"
	if !bytes.Equal(old, text) {
		state = "not as this command would write it now (nearside service install --dry-run shows that)"
	}
	fmt.Fprintf(env.Stdout, "%s is there, %s\n", f.Path, state)
	args := []string{"systemctl", "is-active", serviceName}
	if !f.System {
		args = slices.Insert(args, 1, "--user")
	}
	if f.Launchd {
		args = []string{"launchctl", "list", serviceName}
	}
	if path, err := exec.LookPath(args[0]); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		out, _ := exec.CommandContext(ctx, path, args[1:]...).CombinedOutput() // a service that does not run is told by its exit code as well
		if line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); line != "" {
			fmt.Fprintf(env.Stdout, "%s: %s\n", strings.Join(args, " "), line)
		}
	}
	if !bytes.Equal(old, text) {
		return exitError{code: ExitFailed}
	}
	return nil
}
