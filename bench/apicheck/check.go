// Command apicheck tells what go-fuse's exported API has and ours lacks: in
// the packages fuse, fs and splice every name, every exported field, every
// method with its signature, every constant with its value. What a program
// written for go-fuse can name must exist here, or be listed below with the
// reason why not.
//
//	go run ./apicheck        # prints what is missing; exit status 1 if anything is
package main

import (
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

const (
	peerModule = "github.com/hanwen/go-fuse/v2/"
	ourModule  = "github.com/sluicefs/sluice/"
)

// checked are the packages, named from the root of either module.
var checked = []string{"fuse", "fs", "splice"}

// omitted has the names that are left out on purpose, each with its reason.
// Not among them, because v2.12 itself has it no more: fuse.Attr.Padding of
// older versions, whose four bytes are Attr.Flags now.
var omitted = map[string]string{}

func main() {
	missing, err := check(checked...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "apicheck:", err)
		os.Exit(2)
	}
	for _, m := range missing {
		fmt.Println(m)
	}
	if len(missing) > 0 {
		os.Exit(1)
	}
}

// check compares the packages and returns what ours lack, one line each, in
// order of names.
func check(pkgs ...string) ([]string, error) {
	var paths []string
	for _, p := range pkgs {
		paths = append(paths, peerModule+p, ourModule+p)
	}
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedDeps | packages.NeedExportFile,
	}, paths...)
	if err != nil {
		return nil, err
	}
	byPath := map[string]*types.Package{}
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			return nil, p.Errors[0]
		}
		byPath[p.PkgPath] = p.Types
	}
	var c comparison
	for _, p := range pkgs {
		c.packages(p, byPath[peerModule+p], byPath[ourModule+p])
	}
	slices.Sort(c.missing)
	return c.missing, nil
}

// A comparison collects what is missing.
type comparison struct{ missing []string }

// miss notes that ours lacks name, unless that is meant.
func (c *comparison) miss(name, format string, args ...any) {
	if omitted[name] == "" {
		c.missing = append(c.missing, name+": "+fmt.Sprintf(format, args...))
	}
}

// show writes t so that equal types of the two modules look equal.
func show(t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		return strings.TrimPrefix(strings.TrimPrefix(p.Path(), peerModule), ourModule)
	})
}

func (c *comparison) packages(name string, peer, our *types.Package) {
	for _, n := range peer.Scope().Names() {
		want := peer.Scope().Lookup(n)
		if !want.Exported() {
			continue
		}
		full := name + "." + n
		switch got := our.Scope().Lookup(n); want := want.(type) {
		case *types.TypeName:
			if g, ok := got.(*types.TypeName); ok {
				c.types(full, want.Type(), g.Type())
			} else {
				c.miss(full, "no such type")
			}
		case *types.Const:
			if g, ok := got.(*types.Const); ok {
				c.constants(full, want, g)
			} else {
				c.miss(full, "no such constant")
			}
		default: // function or variable
			switch {
			case got == nil:
				c.miss(full, "missing: %s", signature(want.Type()))
			case signature(got.Type()) != signature(want.Type()):
				c.miss(full, "is %s, should be %s", signature(got.Type()), signature(want.Type()))
			}
		}
	}
}

func (c *comparison) constants(name string, want, got *types.Const) {
	if show(want.Type()) != show(got.Type()) {
		c.miss(name, "has type %s, should have %s", show(got.Type()), show(want.Type()))
	}
	if !constant.Compare(constant.ToInt(want.Val()), token.EQL, constant.ToInt(got.Val())) {
		c.miss(name, "is %v, should be %v", got.Val(), want.Val())
	}
}

// types compares what a program can do with values of a type.
func (c *comparison) types(name string, want, got types.Type) {
	wi, isInterface := want.Underlying().(*types.Interface)
	if isInterface {
		c.interfaces(name, wi, got)
		return
	}
	c.methods(name, want, got)
	ws, ok := want.Underlying().(*types.Struct)
	if !ok {
		if show(want.Underlying()) != show(got.Underlying()) {
			c.miss(name, "is %s, should be %s", show(got.Underlying()), show(want.Underlying()))
		}
		return
	}
	gs, ok := got.Underlying().(*types.Struct)
	if !ok {
		c.miss(name, "is no struct")
		return
	}
	for i := range ws.NumFields() {
		f := ws.Field(i)
		if !f.Exported() {
			continue
		}
		full := name + "." + f.Name()
		g := field(gs, f.Name())
		switch {
		case g == nil:
			c.miss(full, "no such field")
		case show(g.Type()) != show(f.Type()):
			c.miss(full, "has type %s, should have %s", show(g.Type()), show(f.Type()))
		case f.Embedded() != g.Embedded():
			c.miss(full, "embedded: %v, should be %v", g.Embedded(), f.Embedded())
		}
	}
}

// interfaces wants the same methods on both sides: one more would break who
// implements the interface, one less who calls it.
func (c *comparison) interfaces(name string, want *types.Interface, got types.Type) {
	gi, ok := got.Underlying().(*types.Interface)
	if !ok {
		c.miss(name, "is no interface")
		return
	}
	c.methods(name, want, gi)
	for i := range gi.NumMethods() {
		m := gi.Method(i)
		if !m.Exported() && hasUnexported(want) {
			continue // nobody outside could implement either
		}
		if obj, _, _ := types.LookupFieldOrMethod(want, false, nil, m.Name()); obj == nil {
			c.miss(name+"."+m.Name(), "is a method too many")
		}
	}
}

func hasUnexported(t *types.Interface) bool {
	for m := range t.Methods() {
		if !m.Exported() {
			return true
		}
	}
	return false
}

// methods compares those that a pointer to the type has.
func (c *comparison) methods(name string, want, got types.Type) {
	if !types.IsInterface(want) {
		want, got = types.NewPointer(want), types.NewPointer(got)
	}
	have := types.NewMethodSet(got)
	for m := range types.NewMethodSet(want).Methods() {
		if !m.Obj().Exported() {
			continue
		}
		full := name + "." + m.Obj().Name()
		g := have.Lookup(nil, m.Obj().Name())
		switch {
		case g == nil:
			c.miss(full, "no such method: %s", signature(m.Type()))
		case signature(g.Type()) != signature(m.Type()):
			c.miss(full, "is %s, should be %s", signature(g.Type()), signature(m.Type()))
		}
	}
}

// field returns the field of s that is called name, or nil.
func field(s *types.Struct, name string) *types.Var {
	for i := range s.NumFields() {
		if f := s.Field(i); f.Name() == name {
			return f
		}
	}
	return nil
}

// signature writes a function's type without the names of its parameters;
// other types as they are.
func signature(t types.Type) string {
	s, ok := t.(*types.Signature)
	if !ok {
		return show(t)
	}
	var b strings.Builder
	b.WriteString("func(")
	b.WriteString(tuple(s.Params()))
	b.WriteString(") (")
	b.WriteString(tuple(s.Results()))
	b.WriteString(")")
	if s.Variadic() {
		b.WriteString(" ...")
	}
	return b.String()
}

func tuple(t *types.Tuple) string {
	var parts []string
	for v := range t.Variables() {
		parts = append(parts, show(v.Type()))
	}
	return strings.Join(parts, ", ")
}
