// Package upstream owns everything between us and a backend: connections, the
// address policy, phased deadlines, one attempt and its error kind, backend
// state, discovery and probing. It never decides what to try next.
package upstream
