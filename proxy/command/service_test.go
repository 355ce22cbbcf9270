package command

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// serviceRun runs nearside service as somebody with a home of their own, from an
// empty folder.
type serviceRun struct {
	t    *testing.T
	home string
}

func newServiceRun(t *testing.T) *serviceRun {
	t.Helper()
	r := &serviceRun{t, t.TempDir()}
	t.Chdir(t.TempDir())
	return r
}

func (r *serviceRun) run(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	var out, errs bytes.Buffer
	lookup := func(name string) (string, bool) {
		switch name {
		case "HOME":
			return r.home, true
		case "XDG_STATE_HOME":
			return filepath.Join(r.home, "state"), true
		}
		return "", false
	}
	get := func(name string) string { v, _ := lookup(name); return v }
	code = Run(append([]string{"service"}, args...), &Env{Stdout: &out, Stderr: &errs, Getenv: get, Lookup: lookup, Version: "test"})
	return out.String(), errs.String(), code
}

// verify has systemd itself read a unit; what it says is a mistake.
func verify(t *testing.T, unit string, args ...string) string {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (scripts/test.sh installs it)")
	}
	path := filepath.Join(t.TempDir(), "nearside.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(analyze, append(args, "verify", path)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

// odd makes a program whose name holds what units and property lists make something
// else of.
func odd(t *testing.T, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "near side %h $HOME ${HOME} <&>;"+more)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A unit that systemd refuses, or reads otherwise than it was meant, leaves a
// machine without its proxy after the next start.
func TestSystemdTakesTheUnits(t *testing.T) {
	r := newServiceRun(t)
	system, _, code := r.run("install", "--dry-run", "--system", "--for", "systemd", "--binary", "/bin/true", "--credential", "openai=/etc/hostname")
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	if said := verify(t, system); said != "" {
		t.Errorf("systemd says of the system's unit: %s", said)
	}
	if said := verify(t, strings.Replace(system, "PrivateTmp=", "PrivateTemp=", 1)); said == "" {
		t.Error("verify takes anything: it proves nothing")
	}
	for _, want := range []string{"\nType=notify\n", "\nDynamicUser=yes\n", "\nProtectSystem=strict\n", "\nProtectHome=yes\n", "\nPrivateTmp=yes\n", "\nNoNewPrivileges=yes\n",
		"\nMemoryDenyWriteExecute=yes\n", "\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n", "\nSystemCallFilter=@system-service\n", "\nLimitNOFILE=65536\n", "\nStateDirectory=nearside\n",
		"\nEnvironment=NEARSIDE_DATA=%S/nearside\n", "\nLoadCredential=openai:/etc/hostname\n", "\nEnvironmentFile=-/etc/nearside/keys.env\n", "\nCapabilityBoundingSet=\n", "\nTimeoutStopSec=130\n",
		"\nExecStart=/bin/true serve\n", "\nWantedBy=multi-user.target\n"} {
		if !strings.Contains(system, want) {
			t.Errorf("the system's unit lacks %q", want)
		}
	}

	path := odd(t, "")
	config := filepath.Join(t.TempDir(), `con %t $fig "x".json5`)
	if err := os.WriteFile(config, []byte(`{ proxy: { listen: "127.0.0.1:80", drain: { graceSeconds: 5 } } }`), 0o600); err != nil {
		t.Fatal(err)
	}
	user, _, code := r.run("install", "--dry-run", "--user", "--for", "systemd", "--binary", path, "--config", config)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	if said := verify(t, user, "--user"); said != "" {
		t.Errorf("systemd says of a user's unit: %s\n%s", said, user)
	}
	if !strings.Contains(user, "\nWantedBy=default.target\n") || !strings.Contains(user, "\nTimeoutStopSec=15\n") || strings.Contains(user, "DynamicUser") {
		t.Errorf("a user's unit is\n%s", user)
	}
	if want := `con %%t $$fig \"x\".json5"`; !strings.Contains(user, want) {
		t.Errorf("a user's unit lacks %s", want)
	}
	if _, stderr, code := r.run("install", "--dry-run", "--user", "--for", "systemd", "--binary", odd(t, `"`)); code != ExitUsage || !strings.Contains(stderr, "runs no program") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A service of the system sees no home and no /tmp: that is said before it is
// installed and not by a service that does not start.
func TestSystemUnitsNameOnlyWhatTheySee(t *testing.T) {
	r := newServiceRun(t)
	f := func(want string, args ...string) {
		t.Helper()
		_, stderr, code := r.run(append([]string{"install", "--dry-run", "--system", "--for", "systemd"}, args...)...)
		if code != ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	tmp := filepath.Join(t.TempDir(), "nearside")
	if err := os.WriteFile(tmp, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f("copy it to /usr/local/bin", "--binary", tmp)
	config := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(config, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f("copy it to /etc/nearside", "--binary", "/bin/true", "--config", config)
	if err := os.WriteFile(config, []byte(`{ proxy: { dataDir: "/srv/x" } }`), 0o600); err != nil {
		t.Fatal(err)
	}
	f("/var/lib/nearside only", "--binary", "/bin/true", "--config", config)
	f("is no program", "--binary", config)
	f("NAME=FILE", "--binary", "/bin/true", "--credential", "openai")
}

// Installing writes once, replaces what it wrote, leaves what others wrote, and is
// undone without a trace but for configuration and data.
func TestServiceIsInstalledAndRemoved(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no services of Windows")
	}
	r := newServiceRun(t)
	install := []string{"install", "--user", "--for", "systemd", "--binary", "/bin/true"}
	path := filepath.Join(r.home, ".config", "systemd", "user", "nearside.service")
	expect := func(want string, wantCode int, args ...string) {
		t.Helper()
		stdout, stderr, code := r.run(args...)
		if code != wantCode || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", args, code, wantCode, want, stdout, stderr)
		}
	}
	status := []string{"status", "--user", "--for", "systemd", "--binary", "/bin/true"}
	uninstall := []string{"uninstall", "--user", "--for", "systemd", "--binary", "/bin/true"}
	expect("is not there: nearside service install", ExitFailed, status...)
	expect("Description=Nearside", ExitOK, append([]string{install[0], "--dry-run"}, install[1:]...)...)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("--dry-run wrote %s (%v)", path, err)
	}
	expect("systemctl --user enable --now nearside", ExitOK, install...)
	expect("as this command writes it", ExitOK, status...)
	expect("is up to date", ExitOK, install...)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("the unit is %v (%v)", st, err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(written, "# more\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("not as this command would write it now", ExitFailed, status...)
	expect("systemctl --user restart nearside", ExitOK, install...)
	// What is installed can be removed when nothing else is right any more.
	broken := filepath.Join(r.home, "broken.json5")
	if err := os.WriteFile(broken, []byte("{ proxy: { lisen: 1 } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := []string{"uninstall", "--user", "--for", "systemd", "--binary", "/nowhere/nearside", "--config", broken}
	expect("unknown key", ExitUsage, "status", "--user", "--for", "systemd", "--config", broken)
	expect("is removed", ExitOK, gone...)
	expect("is not there: nearside service install", ExitFailed, "status", "--user", "--for", "systemd", "--config", broken)
	expect("is written", ExitOK, install...)
	if err := os.WriteFile(path, []byte("[Service]\nExecStart=/bin/false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("was not written by this command", ExitUsage, install...)
	expect("was not written by this command", ExitUsage, uninstall...)
	expect("is written", ExitOK, append(install, "--force")...)
	expect("would remove", ExitOK, append(uninstall, "--dry-run")...)
	expect("is removed", ExitOK, uninstall...)
	expect("is not there", ExitOK, uninstall...)
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

// plist reads a property list's values in order: keys and texts, as launchd does.
func plist(t *testing.T, text string) (values []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = true
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return values
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if el, ok := tok.(xml.StartElement); ok && (el.Name.Local == "key" || el.Name.Local == "string" || el.Name.Local == "integer") {
			var v string
			if err := d.DecodeElement(&v, &el); err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
	}
}

// The job parses as a property list, whatever stands in a path.
func TestLaunchdTakesTheJob(t *testing.T) {
	r := newServiceRun(t)
	path := odd(t, `"x'`)
	text, _, code := r.run("install", "--dry-run", "--for", "launchd", "--binary", path)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	got := strings.Join(plist(t, text), "\n")
	for _, want := range []string{"Label\nnearside\nProgramArguments\n" + path + "\nserve\nEnvironmentVariables\nNEARSIDE_DATA\n" + r.home + "/state/nearside\n", "ExitTimeOut\n130", "NumberOfFiles\n65536"} {
		if !strings.Contains(got, want) {
			t.Errorf("the job lacks %q:\n%s", want, got)
		}
	}
	if _, _, code := r.run("install", "--for", "launchd", "--binary", "/bin/true"); code != 0 {
		t.Errorf("exit %d", code)
	}
	file := filepath.Join(r.home, "Library", "LaunchAgents", "nearside.plist")
	if tool, err := exec.LookPath("plistutil"); err == nil {
		out, err := exec.Command(tool, "-i", file).Output()
		if err != nil || !bytes.HasPrefix(out, []byte("bplist")) || !bytes.Contains(out, []byte("NEARSIDE_DATA")) {
			t.Errorf("plistutil does not read it: %v", err)
		}
	}
	if _, stderr, code := r.run("install", "--system", "--for", "launchd"); code != ExitUsage || !strings.Contains(stderr, "as root") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, stderr, code := r.run("install", "--for", "launchd", "--credential", "a=b"); code != ExitUsage || !strings.Contains(stderr, "systemd's") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
