/* The other half of a lazy archive (lazy.S has the functions): opens the library once and looks functions up.
 *
 * LAZY     prefix of the archive's own names
 * FILES    the files to try, comma-separated strings, for example "libcuda.so.1"
 * ABSENT   the status that a function returns where no file opens
 * LACKING  the status that it returns where the library opens but does not have the function
 * "symbols.inc" holds one line SYMBOL(index, name, kind) for each function; kind is what it returns.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define HIDDEN __attribute__((visibility("hidden")))

enum kind { status, text, number, nothing };

#define SYMBOL(index, name, kind) #name,
static const char *const names[] = {
#include "symbols.inc"
};
#undef SYMBOL
#define SYMBOL(index, name, kind) kind,
static const unsigned char kinds[] = {
#include "symbols.inc"
};

static const char *const files[] = {FILES};
enum { FILE_COUNT = sizeof files / sizeof *files };

/* Where a function was found; lazy.S jumps there. Hidden, as the functions are: a library opened here must never
 * find our stand-ins in place of its own functions. */
HIDDEN void *JOIN(LAZY, _table)[sizeof kinds];

static void *library;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

/* Folders that the loader does not search by itself: a variable's value (empty: none), then the rest of a pattern. */
static const struct place {
  const char *variable, *rest;
} places[] = {
    {"THIMBLE_CUDA_LIBS", ""},
    {"CUDA_HOME", "/lib64"},
    {"CUDA_PATH", "/lib64"},
    {"CONDA_PREFIX", "/lib"},
    {"VIRTUAL_ENV", "/lib/python3*/site-packages/nvidia/*/lib"},
    {"", "/usr/local/cuda/lib64"},
    {"", "/usr/local/nvidia/lib64"},
    {"", "/usr/lib/wsl/lib"},
    {"", "/run/opengl-driver/lib"},
};

static void *open_matching(const char *pattern) {
  glob_t found;
  void *handle = NULL;
  if (glob(pattern, 0, NULL, &found) != 0) return NULL;
  for (size_t k = 0; k < found.gl_pathc && !handle; k++) handle = dlopen(found.gl_pathv[k], RTLD_LAZY | RTLD_LOCAL);
  globfree(&found);
  return handle;
}

/* Tries FILE in each folder of the colon-separated FOLDERS, with REST after the folder. */
static void *open_in(const char *folders, const char *rest, const char *file) {
  void *handle = NULL;
  for (const char *start = folders; start && !handle;) {
    const char *end = strchr(start, ':');
    size_t length = end ? (size_t)(end - start) : strlen(start);
    char path[4096];
    int written = snprintf(path, sizeof path, "%.*s%s/%s", (int)length, start, rest, file);
    if (length + strlen(rest) > 0 && written > 0 && (size_t)written < sizeof path) handle = open_matching(path);
    start = end ? end + 1 : NULL;
  }
  return handle;
}

static void open_library(void) {
  for (int f = 0; f < FILE_COUNT && !library; f++) library = dlopen(files[f], RTLD_LAZY | RTLD_LOCAL);
  for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
    const char *folders = *places[p].variable ? getenv(places[p].variable) : "";
    if (!folders || (*places[p].variable && !*folders)) continue;
    for (int f = 0; f < FILE_COUNT && !library; f++) library = open_in(folders, places[p].rest, files[f]);
  }
}

/* What is called in place of a function that could not be had, by what it returns. */
static long return_absent(void) { return ABSENT; }
static long return_lacking(void) { return LACKING; }
static long return_zero(void) { return 0; }
static const char *return_text(void) { return "a CUDA library cannot be opened or lacks a function"; }

/* The function of symbols.inc's line INDEX, or one that returns why there is none. Called by lazy.S. */
HIDDEN void *JOIN(LAZY, _resolve)(long index) {
  pthread_once(&opened, open_library);
  void *function = library ? dlsym(library, names[index]) : NULL;
  if (function) {
    __atomic_store_n(&JOIN(LAZY, _table)[index], function, __ATOMIC_RELAXED);
    return function;
  }
  switch (kinds[index]) {
    case status: return library ? (void *)return_lacking : (void *)return_absent;
    case text: return (void *)return_text;
    default: return (void *)return_zero;
  }
}
