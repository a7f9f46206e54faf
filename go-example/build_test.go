package keylatch

import (
	"archive/zip"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// These build programs with the package, as its users do.

func goBuild(t *testing.T, environment []string, arguments ...string) (output string, err error) {
	t.Helper()
	if raceEnabled || testing.Short() {
		t.Skip("once is enough, without the race detector and -short")
	}
	command := exec.Command("go", append([]string{"build"}, arguments...)...)
	command.Env = append(os.Environ(), environment...)
	printed, err := command.CombinedOutput()
	return string(printed), err
}

func TestTheRaceDetectorKnows(t *testing.T) {
	program := filepath.Join(t.TempDir(), "racing")
	if output, err := goBuild(t, nil, "-race", "-o", program, "./internal/racing"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for name, races := range map[string]bool{
		"writers": false, "writers in a crowd": false, "a writer and a reader": false, "all in a crowd": false, "batches": false,
		"a downgrade": false, "an upgrade": false, "mutexes": false, "grants": false,
		"one key said in two ways": false,
		"no lock":                  true, "no lock to read": true, "too early": true, "a writer that shares": true, "the wrong key": true,
		"taken by force": true,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := exec.Command(program, name)
			command.Env = append(os.Environ(), "GORACE=exitcode=66 atexit_sleep_ms=0")
			output, err := command.CombinedOutput()
			var exit *exec.ExitError
			reported := errors.As(err, &exit) && exit.ExitCode() == 66 && strings.Contains(string(output), "DATA RACE")
			if reported != races || !races && err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
		})
	}
}

func runs(t *testing.T, program string) {
	t.Helper()
	if output, err := exec.Command(program).CombinedOutput(); err != nil || string(output) != "held: true\n" {
		t.Fatalf("%v\n%s", err, output)
	}
}

func TestTheStaticLibraryIsPartOfTheProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "hello")
	if output, err := goBuild(t, nil, "-tags", "keylatch_static", "-o", program, "./internal/hello"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	runs(t, program)
	needed, err := exec.Command("readelf", "-d", program).Output()
	ok(t, err)
	if strings.Contains(string(needed), "libkeylatch") {
		t.Fatalf("it needs the shared library:\n%s", needed)
	}
}

func TestStaticProgramNeedsNothing(t *testing.T) {
	program := filepath.Join(t.TempDir(), "hello")
	static := []string{"-tags", "keylatch_static,netgo,osusergo", "-ldflags", "-linkmode external -extldflags -static"}
	if output, err := goBuild(t, nil, append(static, "-o", program, "./internal/hello")...); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	runs(t, program)
	needed, err := exec.Command("readelf", "-d", program).Output()
	ok(t, err)
	if strings.Contains(string(needed), "NEEDED") {
		t.Fatalf("it needs shared libraries:\n%s", needed)
	}
}

func TestTheInstalledLibraryIsFoundByPkgConfig(t *testing.T) {
	installed, err := filepath.Abs("../target/installed/lib")
	ok(t, err)
	if _, err := os.Stat(filepath.Join(installed, "pkgconfig/keylatch.pc")); err != nil {
		t.Skip("make test-go installs it first")
	}
	program := filepath.Join(t.TempDir(), "hello")
	environment := []string{"PKG_CONFIG_PATH=" + filepath.Join(installed, "pkgconfig"), "CGO_LDFLAGS=-Wl,-rpath," + installed}
	if output, err := goBuild(t, environment, "-tags", "keylatch_pkgconfig", "-o", program, "./internal/hello"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	runs(t, program)
}

// Where the library was not built, or Go has no C compiler, the first thing that is said is what to do.
func TestWhatIsMissingIsSaid(t *testing.T) {
	folder := t.TempDir()
	ok(t, os.CopyFS(filepath.Join(folder, "go-example"), os.DirFS(".")))
	elsewhere := filepath.Join(folder, "go-example")
	for _, tag := range []string{"", "keylatch_static"} {
		output, err := goBuild(t, nil, "-C", elsewhere, "-tags", tag, "-o", os.DevNull, "./internal/hello")
		if err == nil || !strings.Contains(output, "make capi") || strings.Contains(output, "gcc failed") {
			t.Errorf("%q: %v\n%s", tag, err, output)
		}
	}
	output, err := goBuild(t, []string{"CGO_ENABLED=0"}, "-C", elsewhere, "-o", os.DevNull, "./internal/hello")
	if lines := strings.Split(output, "\n"); err == nil || len(lines) < 2 || !strings.Contains(lines[1], "needs_cgo") {
		t.Errorf("%v\n%s", err, output)
	}
}

// A header of another version stops the compiler, and a library of another one the linker.
func TestAnotherVersionIsRefused(t *testing.T) {
	folder := t.TempDir()
	header, err := os.ReadFile("keylatch.h")
	ok(t, err)
	later := strings.Replace(string(header), "#define KEYLATCH_VERSION_MINOR 1", "#define KEYLATCH_VERSION_MINOR 2", 1)
	ok(t, os.WriteFile(filepath.Join(folder, "keylatch.h"), []byte(later), 0o600))
	output, err := goBuild(t, []string{"CGO_CFLAGS=-I" + folder}, "-o", os.DevNull, "./internal/hello")
	if err == nil || !strings.Contains(output, "of another version than this Go package") {
		t.Fatalf("%v\n%s", err, output)
	}

	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	source, library := filepath.Join(folder, "later.c"), filepath.Join(folder, "libkeylatch.so")
	ok(t, os.WriteFile(source, []byte("void keylatch_abi_1(void) {}\n"), 0o600))
	if output, err := exec.Command(compiler, "-shared", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	output, err = goBuild(t, []string{"CGO_LDFLAGS=-L" + folder}, "-o", os.DevNull, "./internal/hello")
	if err == nil || !strings.Contains(output, "keylatch_abi_0") {
		t.Fatalf("%v\n%s", err, output)
	}
}

const modulePath, moduleVersion = "example.org/keylatch", "v0.1.0"

// installedLibrary is the environment that finds what `make test-go` has installed.
func installedLibrary(t *testing.T) []string {
	t.Helper()
	installed, err := filepath.Abs("../target/installed/lib")
	ok(t, err)
	if _, err := os.Stat(filepath.Join(installed, "pkgconfig/keylatch.pc")); err != nil {
		t.Skip("make test-go installs it first")
	}
	return []string{"PKG_CONFIG_PATH=" + filepath.Join(installed, "pkgconfig"), "CGO_LDFLAGS=-Wl,-rpath," + installed}
}

// userModule is a module of a user's that wants this one.
func userModule(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	hello, err := os.ReadFile("internal/hello/main.go")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(folder, "main.go"), hello, 0o600))
	ok(t, os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module example.org/user\n\ngo 1.25\n"), 0o600))
	return folder
}

func goIn(t *testing.T, folder string, environment []string, arguments ...string) {
	t.Helper()
	command := exec.Command("go", arguments...)
	command.Dir, command.Env = folder, append(os.Environ(), environment...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", arguments, err, output)
	}
}

// A program that vendors the package needs the installed library and nothing else of this tree.
func TestVendoredPackageBuilds(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("once is enough, without the race detector and -short")
	}
	environment, folder := installedLibrary(t), userModule(t)
	here, err := filepath.Abs(".")
	ok(t, err)
	replaced := modulePath + "=" + here
	goIn(t, folder, environment, "mod", "edit", "-require", modulePath+"@"+moduleVersion, "-replace", replaced)
	goIn(t, folder, append(environment, "GOFLAGS="), "mod", "vendor")
	vendored := filepath.Join(folder, "vendor", modulePath)
	for _, name := range []string{"keylatch.h", "doc.go"} {
		if _, err := os.Stat(filepath.Join(vendored, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tags := range []string{"keylatch_pkgconfig", "keylatch_pkgconfig,keylatch_static"} {
		goIn(t, folder, append(environment, "GOFLAGS=-mod=vendor"), "build", "-tags", tags, "-o", "user", ".")
		runs(t, filepath.Join(folder, "user"))
		needed, err := exec.Command("readelf", "-d", filepath.Join(folder, "user")).Output()
		ok(t, err)
		if strings.Contains(string(needed), "libkeylatch") == strings.Contains(tags, "static") {
			t.Fatalf("with the tags %s:\n%s", tags, needed)
		}
	}
}

// As `go get` fetches it: from a module proxy, here a folder.
func TestModuleProxyServesThePackage(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("once is enough, without the race detector and -short")
	}
	environment, folder, proxy := installedLibrary(t), userModule(t), t.TempDir()
	versions := filepath.Join(proxy, modulePath, "@v")
	ok(t, os.MkdirAll(versions, 0o700))
	module, err := os.ReadFile("go.mod")
	ok(t, err)
	for name, text := range map[string]string{
		"list": moduleVersion + "\n", moduleVersion + ".mod": string(module),
		moduleVersion + ".info": `{"Version":"` + moduleVersion + `","Time":"2026-01-01T00:00:00Z"}`,
	} {
		ok(t, os.WriteFile(filepath.Join(versions, name), []byte(text), 0o600))
	}
	archive, err := os.Create(filepath.Join(versions, moduleVersion+".zip"))
	ok(t, err)
	zipped := zip.NewWriter(archive)
	ok(t, fs.WalkDir(os.DirFS("."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := zipped.Create(modulePath + "@" + moduleVersion + "/" + path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			_, err = file.Write(content)
		}
		return err
	}))
	ok(t, zipped.Close())
	ok(t, archive.Close())
	cache := filepath.Join(t.TempDir(), "modules")
	environment = append(environment, "GOPROXY=file://"+proxy, "GONOSUMDB=*", "GOSUMDB=off", "GOMODCACHE="+cache, "GOFLAGS=-modcacherw")
	goIn(t, folder, environment, "get", modulePath+"@latest")
	goIn(t, folder, environment, "build", "-tags", "keylatch_pkgconfig", "-o", "user", ".")
	runs(t, filepath.Join(folder, "user"))
}

// The header in the module is the library's: what is vendored has no other.
func TestHeaderIsThatOfTheLibrary(t *testing.T) {
	library, err := os.ReadFile("../include/keylatch.h")
	ok(t, err)
	module, err := os.ReadFile("keylatch.h")
	ok(t, err)
	if string(library) != string(module) {
		t.Fatal("go-example/keylatch.h is not include/keylatch.h: `make header` copies it")
	}
}
