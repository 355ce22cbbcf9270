package shaping

// messageKeysRule leaves out members of messages that the server refuses.
func messageKeysRule(s *Shape, r *Request) error {
	v := r.revision("messages")
	for v.next() {
		msg := v.item()
		var gone []string
		for _, key := range s.compat.UnsupportedMessageKeys {
			if was := memberOf(msg, key); was != nil && key != "role" && key != "content" {
				v.note(key, was, nil, "", true)
				gone = append(gone, key)
			}
		}
		if len(gone) > 0 {
			v.replace(withoutMembers(msg, gone...))
		}
	}
	v.done()
	return nil
}
