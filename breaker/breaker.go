// Package breaker owns whether a target may be called now. It settles tickets
// into verdicts; gobreaker is its secret. It knows nothing of HTTP.
package breaker
