package keylatch

import (
	"errors"
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
	told, err := command.CombinedOutput()
	return string(told), err
}

func TestTheRaceDetectorKnows(t *testing.T) {
	program := filepath.Join(t.TempDir(), "racing")
	if told, err := goBuild(t, nil, "-race", "-o", program, "./internal/racing"); err != nil {
		t.Fatalf("%v\n%s", err, told)
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
			told, err := command.CombinedOutput()
			var exit *exec.ExitError
			reported := errors.As(err, &exit) && exit.ExitCode() == 66 && strings.Contains(string(told), "DATA RACE")
			if reported != races || !races && err != nil {
				t.Fatalf("%v\n%s", err, told)
			}
		})
	}
}

func runs(t *testing.T, program string) {
	t.Helper()
	if told, err := exec.Command(program).CombinedOutput(); err != nil || string(told) != "held: true\n" {
		t.Fatalf("%v\n%s", err, told)
	}
}

func TestTheStaticLibraryIsPartOfTheProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "hello")
	if told, err := goBuild(t, nil, "-tags", "keylatch_static", "-o", program, "./internal/hello"); err != nil {
		t.Fatalf("%v\n%s", err, told)
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
	if told, err := goBuild(t, nil, append(static, "-o", program, "./internal/hello")...); err != nil {
		t.Fatalf("%v\n%s", err, told)
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
	if told, err := goBuild(t, environment, "-tags", "keylatch_pkgconfig", "-o", program, "./internal/hello"); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	runs(t, program)
}

// Where the library was not built, or Go has no C compiler, the first thing that is said is what to do.
func TestWhatIsMissingIsSaid(t *testing.T) {
	folder := t.TempDir()
	ok(t, os.CopyFS(filepath.Join(folder, "go-example"), os.DirFS(".")))
	ok(t, os.CopyFS(filepath.Join(folder, "include"), os.DirFS("../include")))
	elsewhere := filepath.Join(folder, "go-example")
	for _, tag := range []string{"", "keylatch_static"} {
		told, err := goBuild(t, nil, "-C", elsewhere, "-tags", tag, "-o", os.DevNull, "./internal/hello")
		if err == nil || !strings.Contains(told, "make capi") || strings.Contains(told, "gcc failed") {
			t.Errorf("%q: %v\n%s", tag, err, told)
		}
	}
	told, err := goBuild(t, []string{"CGO_ENABLED=0"}, "-C", elsewhere, "-o", os.DevNull, "./internal/hello")
	if lines := strings.Split(told, "\n"); err == nil || len(lines) < 2 || !strings.Contains(lines[1], "needs_cgo") {
		t.Errorf("%v\n%s", err, told)
	}
}

// A header of another version stops the compiler, and a library of another one the linker.
func TestAnotherVersionIsRefused(t *testing.T) {
	folder := t.TempDir()
	header, err := os.ReadFile("../include/keylatch.h")
	ok(t, err)
	later := strings.Replace(string(header), "#define KEYLATCH_VERSION_MINOR 1", "#define KEYLATCH_VERSION_MINOR 2", 1)
	ok(t, os.WriteFile(filepath.Join(folder, "keylatch.h"), []byte(later), 0o600))
	told, err := goBuild(t, []string{"CGO_CFLAGS=-I" + folder}, "-o", os.DevNull, "./internal/hello")
	if err == nil || !strings.Contains(told, "of another version than this Go package") {
		t.Fatalf("%v\n%s", err, told)
	}

	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	source, library := filepath.Join(folder, "later.c"), filepath.Join(folder, "libkeylatch.so")
	ok(t, os.WriteFile(source, []byte("void keylatch_abi_1(void) {}\n"), 0o600))
	if told, err := exec.Command(compiler, "-shared", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	told, err = goBuild(t, []string{"CGO_LDFLAGS=-L" + folder}, "-o", os.DevNull, "./internal/hello")
	if err == nil || !strings.Contains(told, "keylatch_abi_0") {
		t.Fatalf("%v\n%s", err, told)
	}
}
