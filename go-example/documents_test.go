package keylatch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is Go code of a document.
type block struct {
	page string
	line int
	code string
}

var blockOfGo = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

func blocksOf(page, text string) (blocks []block) {
	for _, found := range blockOfGo.FindAllStringSubmatchIndex(text, -1) {
		line := 1 + strings.Count(text[:found[2]], "\n")
		blocks = append(blocks, block{page: page, line: line, code: text[found[2]:found[3]]})
	}
	return blocks
}

// whole says that the block is a program. Any other is the body of a function that returns an error.
func (b block) whole() bool { return strings.HasPrefix(b.code, "package ") }

// surroundings are what the code around a fragment would have.
const surroundings = `package documents

import (
	"context"

	"example.org/keylatch"
)

var (
	ctx      context.Context
	locks    *keylatch.Manager
	cat, dog keylatch.Key
)
`

// packages are those that a fragment may name. Each is imported where it is named.
var packages = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "log": "log", "os": "os", "slog": "log/slog",
	"sync": "sync", "time": "time", "keylatch": "example.org/keylatch", "remote": "example.org/keylatch/remote",
}

// file is the block as a file of Go. Compilers name the line of the document.
func (b block) file(number int) (string, error) {
	place := fmt.Sprintf("//line %s:%d\n", b.page, b.line)
	if b.whole() {
		return place + b.code, nil
	}
	function := fmt.Sprintf("func block%d() error {\n%s%s\n", number, place, b.code)
	parsed, err := parser.ParseFile(token.NewFileSet(), "", "package documents\n"+function+"return nil\n}\n", 0)
	if err != nil {
		return "", err
	}
	imports := make(map[string]bool)
	ast.Inspect(parsed, func(node ast.Node) bool {
		if selector, is := node.(*ast.SelectorExpr); is {
			if name, is := selector.X.(*ast.Ident); is && packages[name.Name] != "" {
				imports[packages[name.Name]] = true
			}
		}
		return true
	})
	var file strings.Builder
	file.WriteString("package documents\n")
	for _, path := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&file, "import %q\n", path)
	}
	file.WriteString(function)
	// What a fragment declares is for the code after it.
	for _, statement := range parsed.Decls[0].(*ast.FuncDecl).Body.List {
		if declares, is := statement.(*ast.AssignStmt); is && declares.Tok == token.DEFINE {
			for _, name := range declares.Lhs {
				if name := name.(*ast.Ident).Name; name != "_" {
					fmt.Fprintf(&file, "_ = %s\n", name)
				}
			}
		}
	}
	file.WriteString("return nil\n}\n")
	return file.String(), nil
}

// compile compiles each program by itself, and all fragments as one package.
func compile(t *testing.T, blocks []block) (problems string) {
	folder := t.TempDir()
	fragments := []string{filepath.Join(folder, "surroundings.go")}
	ok(t, os.WriteFile(fragments[0], []byte(surroundings), 0o600))
	build := func(files ...string) {
		if output, err := goBuild(t, nil, append([]string{"-o", os.DevNull}, files...)...); err != nil {
			problems += fmt.Sprintf("%v\n%s", err, output)
		}
	}
	for number, block := range blocks {
		text, err := block.file(number)
		if err != nil {
			problems += fmt.Sprintln(err)
			continue
		}
		file := filepath.Join(folder, fmt.Sprintf("block%d.go", number))
		ok(t, os.WriteFile(file, []byte(text), 0o600))
		if block.whole() {
			build(file)
		} else {
			fragments = append(fragments, file)
		}
	}
	build(fragments...)
	return problems
}

func TestDocumentedCodeCompiles(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	ok(t, err)
	var blocks []block
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if os.IsNotExist(err) {
			t.Skip("the documents are not here")
		}
		ok(t, err)
		blocks = append(blocks, blocksOf(strings.TrimPrefix(page, "../"), string(text))...)
	}
	if len(blocks) < 5 {
		t.Fatalf("the documents have %d blocks of Go", len(blocks))
	}
	if problems := compile(t, blocks); problems != "" {
		t.Fatal(problems)
	}
}

func TestDocumentedMistakesAreNamed(t *testing.T) {
	const start = "A page.\n\n```go\n"
	for wanted, code := range map[string]string{
		"":                           "guard, err := locks.Lock(ctx, cat)\nif err != nil {\n\treturn err\n}\n",
		"page.md:5: undefined: held": "guard, err := locks.Lock(ctx, cat)\n_ = held\n",
		"page.md:4:":                 "guard, err := locks.Hold(ctx, cat)\n",
		"page.md:5:":                 "if true {\n\treturn\n}\n",
		"page.md:4: expected":        "guard, err = = locks\n",
		"page.md:6:":                 "package main\n\nimport \"os\"\n\nfunc main() {}\n",
	} {
		problems := compile(t, blocksOf("page.md", start+code+"```\n"))
		if wanted == "" && problems != "" || !strings.Contains(problems, wanted) {
			t.Errorf("%q, and not %q, of\n%s", problems, wanted, code)
		}
	}
}
