package command

import (
	"encoding/xml"
	"strings"
	"text/template"
)

// systemdArgument writes an argument of a unit's program: what is special there
// stands for itself, and % and $ are not expanded.
func systemdArgument(s string) string { return systemdProgram(strings.ReplaceAll(s, "$", "$$")) }

// systemdProgram writes the program, in which $ is a letter.
func systemdProgram(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s == "" || strings.ContainsAny(s, " \t\"'\\;") {
		s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return s
}

// systemdPath writes a path that is a setting's whole value: there is no $ there,
// and a quote would be part of it.
func systemdPath(s string) string {
	if rest, ok := strings.CutPrefix(s, "%E/"); ok {
		return "%E/" + strings.ReplaceAll(rest, "%", "%%")
	}
	return strings.ReplaceAll(s, "%", "%%")
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return b.String()
}

var serviceFuncs = template.FuncMap{"arg": systemdArgument, "program": systemdProgram, "path": systemdPath, "xml": xmlText}

// systemdUnit is the unit of systemd. A service of the system has a user that
// exists while it runs; one of a user has what the user's manager can do without
// privileges.
var systemdUnit = template.Must(template.New("systemd").Funcs(serviceFuncs).Parse(`# {{.Mark}}; it is replaced by the next one.
[Unit]
Description=Nearside, a local-first OpenAI-compatible proxy
{{- if .System}}
Wants=network-online.target
After=network-online.target
{{- end}}
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=30
ExecStart={{program .Binary}} serve{{if .Config}} --config {{arg .Config}}{{end}}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
# A configuration with problems does not mend itself.
RestartPreventExitStatus=2
# Streams may finish (proxy.drain).
TimeoutStopSec={{.StopAfter}}
KillMode=mixed

EnvironmentFile=-{{path .KeyFile}}
{{- range .Keys}}
LoadCredential={{.Name}}:{{path .File}}
{{- end}}
StateDirectory=nearside
StateDirectoryMode=0700
{{- if .System}}
Environment=NEARSIDE_DATA=%S/nearside
{{- end}}

LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
# AF_NETLINK is how a process learns of the machine's own addresses.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{{- if .System}}
DynamicUser=yes
{{- if .LowPort}}
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
{{- else}}
CapabilityBoundingSet=
{{- end}}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
{{- end}}

[Install]
WantedBy={{if .System}}multi-user.target{{else}}default.target{{end}}
`))

// launchdJob is the property list of launchd, which expands nothing: paths are
// absolute.
var launchdJob = template.Must(template.New("launchd").Funcs(serviceFuncs).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- {{.Mark}}; it is replaced by the next one. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>nearside</string>
	<key>ProgramArguments</key>
	<array>
		<string>{{xml .Binary}}</string>
		<string>serve</string>
{{- if .Config}}
		<string>--config</string>
		<string>{{xml .Config}}</string>
{{- end}}
	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>NEARSIDE_DATA</key>
		<string>{{xml .Data}}</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>ExitTimeOut</key>
	<integer>{{.StopAfter}}</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>Umask</key>
	<integer>63</integer>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
	</dict>
	<key>HardResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
	</dict>
	<key>StandardOutPath</key>
	<string>{{xml .Logs}}/nearside.out.log</string>
	<key>StandardErrorPath</key>
	<string>{{xml .Logs}}/nearside.err.log</string>
</dict>
</plist>
`))
