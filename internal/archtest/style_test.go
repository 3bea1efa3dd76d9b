package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// eachFile calls f with every Go file of the module that is not a test.
func eachFile(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	const root = "../.."
	fset := token.NewFileSet()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		seen++
		f(filepath.ToSlash(rel), fset, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Fatalf("only %d files were found", seen)
	}
}

// public reports whether a file is part of a package that others import.
func public(path string) bool {
	for _, top := range []string{"api", "fs", "fuse", "image", "splice", "storage", "vfs"} {
		if strings.HasPrefix(path, top+"/") {
			return !strings.Contains(path, "/internal/")
		}
	}
	return false
}

// selfExplaining are methods whose meaning is that of the interface which
// everybody knows.
var selfExplaining = []string{"Error", "Is", "String", "Unwrap"}

// Every exported function, type and method of a public package has a comment
// that begins with its name.
func TestExportedNamesAreDocumented(t *testing.T) {
	eachFile(t, func(path string, fset *token.FileSet, file *ast.File) {
		if !public(path) {
			return
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && !(d.Recv != nil && slices.Contains(selfExplaining, d.Name.Name)) {
					checkDoc(t, fset, d.Pos(), d.Name.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
						t.Errorf("%s: %s has no comment", fset.Position(s.Pos()), s.Name.Name)
					}
				}
			}
		}
	})
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func checkDoc(t *testing.T, fset *token.FileSet, pos token.Pos, name string, doc *ast.CommentGroup) {
	t.Helper()
	switch text := doc.Text(); {
	case strings.TrimSpace(text) == "":
		t.Errorf("%s: %s has no comment", fset.Position(pos), name)
	case strings.Fields(text)[0] != name && !strings.HasPrefix(text, "Deprecated:"):
		t.Errorf("%s: the comment of %s begins with %q", fset.Position(pos), name, strings.Fields(text)[0])
	}
}

// The order of reading a variable and calling a function is not specified: in
// "return v, f(&v)" v may be what it was before the call.
func TestNothingIsReturnedBesideTheCallThatFillsItIn(t *testing.T) {
	eachFile(t, func(_ string, fset *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			ret, ok := n.(*ast.ReturnStmt)
			if !ok {
				return true
			}
			for i, result := range ret.Results {
				v, ok := result.(*ast.Ident)
				if !ok {
					continue
				}
				for k, other := range ret.Results {
					if k != i && passesAddress(other, v.Name) {
						t.Errorf("%s: %s is returned beside a call that is given its address", fset.Position(ret.Pos()), v.Name)
					}
				}
			}
			return true
		})
	})
}

// passesAddress reports whether e calls a function with &name.
func passesAddress(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for _, arg := range call.Args {
			if u, ok := arg.(*ast.UnaryExpr); ok && u.Op == token.AND {
				if id, ok := u.X.(*ast.Ident); ok && id.Name == name {
					found = true
				}
			}
		}
		return true
	})
	return found
}
