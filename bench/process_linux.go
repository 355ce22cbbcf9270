package bench

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end the process when this one is killed, which
// leaves no time to do it ourselves. It is in a group of its own: Ctrl-C is for this
// process, which ends the others when it has what they can tell.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
