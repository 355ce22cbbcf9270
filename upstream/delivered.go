package upstream

// Delivered says whether the request was written whole, so that its backend may
// be at work on it. What a kernel has taken and the other side never read counts
// as delivered: nobody can tell.
func (a *Attempt) Delivered() bool {
	return !a.sent.IsZero() && (a.uploaded == nil || a.upDone.Load()) && a.uploadError() == nil
}
