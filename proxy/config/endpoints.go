package config

import (
	"net/url"
	"strconv"
	"strings"

	"nearside/catalog"
	"nearside/upstream"
)

// endpointShape is one element of proxy.providers.<id>.endpoints.
func endpointShape() *shape {
	return obj(
		need("url", textLike(wrongBaseURL)),
		want("name", textLike(wrongEndpointName)),
		want("weight", &shape{kind: number}),
		want("drain", &shape{kind: boolean}),
		want("slots", &shape{kind: whole}),
	)
}

// endpointNameMax bounds what headers and label values hold of an endpoint.
const endpointNameMax = 64

func wrongEndpointName(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > endpointNameMax:
		return "must not have more than " + strconv.Itoa(endpointNameMax) + " characters"
	case strings.ContainsFunc(name, func(c rune) bool { return !strings.ContainsRune(endpointNameChars, c) }):
		return "may have letters, digits and . _ : - only: it stands in headers and metrics"
	}
	return ""
}

// endpointNameChars are those of a name, or of a host with its port.
const endpointNameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:[]-"

// endpoints reads proxy.providers.<id>.endpoints, which stand in the place of a
// provider's baseUrl.
func (l *loader) endpoints(own node) []upstream.EndpointConfig {
	list := own.get("endpoints")
	items := list.items()
	if list.there() && len(items) == 0 {
		l.at(list.pos(), list.path, "lists no endpoint")
	}
	if len(items) > upstream.EndpointsMax {
		l.at(list.pos(), list.path, "lists %d endpoints; a provider has at most %d", len(items), upstream.EndpointsMax)
		return nil
	}
	var all []upstream.EndpointConfig
	drained := 0
	for _, n := range items {
		e := upstream.EndpointConfig{URL: strings.TrimRight(strings.TrimSpace(n.get("url").text()), "/"), Name: n.get("name").text(), Weight: 1, Drain: n.get("drain").flag(false)}
		if wrongBaseURL(e.URL) != "" {
			continue // reported already
		}
		n.setNumber("weight", &e.Weight)
		n.setWhole("slots", &e.Slots)
		if e.Weight > endpointWeightMax {
			l.at(n.get("weight").pos(), n.get("weight").path, "must not be more than %d", endpointWeightMax)
		}
		if u, err := url.Parse(e.URL); err == nil && e.Name == "" {
			e.Name = u.Host
		}
		for i, other := range all {
			switch {
			case other.URL == e.URL:
				l.at(n.get("url").pos(), n.get("url").path, "%s is already in the list", e.URL)
			case other.Name == e.Name:
				l.at(n.pos(), n.path, "is called %q as endpoints[%d] is; give each a name of its own", e.Name, i)
			}
		}
		if e.Drain {
			drained++
		}
		all = append(all, e)
	}
	if len(all) > 0 && drained == len(all) {
		l.warn(list.pos(), list.path, "all endpoints are drained: no request is sent there")
	}
	return all
}

// endpointWeightMax keeps weights within what adds up exactly.
const endpointWeightMax = 1_000_000

// inFile says whether the file itself has a provider.
func (l *loader) inFile(id string) bool {
	for _, e := range l.root.get("models", "providers").entries() {
		if strings.ToLower(strings.TrimSpace(e.key)) == id {
			return true
		}
	}
	return false
}

// sameKind checks that the endpoints of a provider can stand for each other:
// they have its key, its headers and its trust. It returns where they are,
// of several places the one that asks for the most.
func (l *loader) sameKind(own node, all []upstream.EndpointConfig) catalog.Place {
	where, mixed := catalog.PlaceOf(all[0].URL), false
	items := own.get("endpoints").items()
	if len(items) != len(all) {
		return where // something was reported
	}
	for i, e := range all {
		at, place := items[i].get("url"), catalog.PlaceOf(e.URL)
		mixed = mixed || place.Near() != where.Near()
		switch first := all[0].URL; {
		case place == catalog.PlaceLinkLocal:
			l.at(at.pos(), at.path, "is a link-local or cloud metadata address, which is never called")
		case place.Near() != catalog.PlaceOf(first).Near() && !own.get("near").there():
			l.at(at.pos(), at.path, "is %s and %s is %s: the endpoints of a provider are all near or all far, unless proxy.providers.<id>.near says which they count as", placeText(place), first, placeText(catalog.PlaceOf(first)))
		case strings.HasSuffix(e.URL, "/v1") != strings.HasSuffix(first, "/v1"):
			l.at(at.pos(), at.path, "either all endpoints of a provider end in /v1 or none does: requests are made for all alike")
		case vendor(e.URL) != vendor(first):
			l.at(at.pos(), at.path, "is another api than %s: requests are made for all endpoints alike", first)
		}
		if !mixed || own.get("near").there() {
			where = max(where, place)
		}
	}
	return where
}

// vendor is the class of a base URL that is some vendor's own API.
func vendor(url string) catalog.Endpoint {
	if class := catalog.EndpointOf(url); class != catalog.EndpointLocal {
		return class
	}
	return catalog.EndpointCustom
}

func placeText(p catalog.Place) string {
	if p.Near() {
		return "near"
	}
	return "far"
}

// balance reads proxy.balance.
func (l *loader) balance(n node, b *upstream.Balance) {
	n.setNumber("load", &b.Load)
	if at := n.get("load"); at.there() && (b.Load < 1 || b.Load > balanceLoadMax) {
		l.at(at.pos(), at.path, "must be between 1 and %d, as in 1.25", balanceLoadMax)
	}
	n.setSpan("slowStart", &b.SlowStart)
	n.setWhole("failureLoad", &b.FailureLoad)
	n.setSpan("failureFor", &b.FailureFor)
}

// balanceLoadMax is as good as no bound.
const balanceLoadMax = 1000
