package main

import (
	"go/token"
	"go/types"
	"testing"
)

// TestAPI holds the bar: nothing that go-fuse exports is missing.
func TestAPI(t *testing.T) {
	missing, err := check(checked...)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Error(m)
	}
}

// TestComparisonFindsGaps compares two small packages that differ in one
// thing each, so that an empty list means something.
func TestComparisonFindsGaps(t *testing.T) {
	peer, our := types.NewPackage(peerModule+"x", "x"), types.NewPackage(ourModule+"x", "x")
	integer, text := types.Typ[types.Int], types.Typ[types.String]
	function := func(p *types.Package, result types.Type) *types.Signature {
		return types.NewSignatureType(nil, nil, nil, nil, types.NewTuple(types.NewVar(0, p, "", result)), false)
	}
	declare := func(p *types.Package, name string, under types.Type) {
		obj := types.NewTypeName(token.NoPos, p, name, nil)
		types.NewNamed(obj, under, nil)
		p.Scope().Insert(obj)
	}
	peer.Scope().Insert(types.NewFunc(0, peer, "Gone", function(peer, integer)))
	peer.Scope().Insert(types.NewFunc(0, peer, "Differs", function(peer, integer)))
	our.Scope().Insert(types.NewFunc(0, our, "Differs", function(our, text)))
	peer.Scope().Insert(types.NewFunc(0, peer, "hidden", function(peer, integer)))
	declare(peer, "S", types.NewStruct([]*types.Var{types.NewField(0, peer, "A", integer, false), types.NewField(0, peer, "B", integer, false)}, nil))
	declare(our, "S", types.NewStruct([]*types.Var{types.NewField(0, our, "A", text, false)}, nil))
	declare(peer, "I", types.NewInterfaceType(nil, nil))
	declare(our, "I", types.NewInterfaceType([]*types.Func{types.NewFunc(0, our, "More", function(our, integer))}, nil))

	var c comparison
	c.packages("x", peer, our)
	want := map[string]bool{
		"x.Gone: missing: func() (int)":                         true,
		"x.Differs: is func() (string), should be func() (int)": true,
		"x.S.A: has type string, should have int":               true,
		"x.S.B: no such field":                                  true,
		"x.I.More: is a method too many":                        true,
	}
	for _, m := range c.missing {
		if !want[m] {
			t.Errorf("not expected: %s", m)
		}
		delete(want, m)
	}
	for m := range want {
		t.Errorf("not found: %s", m)
	}
}
