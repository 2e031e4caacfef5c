// What the tests of kernels share: random inputs, comparisons, and a list of named cases.
//   main(): return testing::run(argc, argv, {{"name", function}, ...});
// A program runs all cases, or those that its arguments name. SEED chooses the order of blocks, warps and lanes (0: ascending).
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace testing {

inline std::mt19937& generator() { static std::mt19937 g(7); return g; }
inline float normal() { return std::normal_distribution<float>()(generator()); }
inline unsigned below(unsigned n) { return unsigned(generator()() % n); }

inline int failures = 0;

// Notes a failure and says what was found.
__attribute__((format(printf, 2, 3))) inline bool expect(bool good, const char* format, ...) {
  if (good) return true;
  failures++;
  va_list arguments;
  va_start(arguments, format);
  printf("  FAILED: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  return false;
}

// Error and reference as they add up; relative() is NaN if a value is not a number, so compare with <.
struct Deviation {
  double error = 0, square = 0, worst = 0;
  void add(double want, double got) {
    const double e = std::fabs(got - want);
    error += e * e;
    square += want * want;
    if (!(e <= worst)) worst = e;
  }
  // Root of the mean square error over that of the reference.
  double relative() const { return error == 0 ? 0 : std::sqrt(error / square); }
};
inline bool expect_close(const char* what, const Deviation& d, double bound) {
  return expect(d.relative() < bound, "%s: relative rms %.3g, expected less than %.3g (worst %.3g)", what, d.relative(), bound, d.worst);
}

// `action` must throw a fault whose text contains `text`.
template <class Action> bool expect_fault(const char* text, Action action) {
  try {
    action();
  } catch (const emulator::Fault& fault) {
    return expect(fault.what.find(text) != std::string::npos, "expected the fault \"%s\", found \"%s\"", text, fault.what.c_str());
  }
  return expect(false, "expected the fault \"%s\", found none", text);
}

struct Case { const char* name; std::function<void()> run; };

inline int run(int argc, char** argv, const std::vector<Case>& cases) {
  setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // a crash loses no line
  if (const char* seed = getenv("SEED")) emulator::options.seed = strtoull(seed, nullptr, 10);
  int ran = 0;
  for (const Case& c : cases) {
    bool chosen = argc < 2;
    for (int i = 1; i < argc; i++) chosen |= !strcmp(argv[i], c.name);
    if (!chosen) continue;
    ran++;
    const int before = failures;
    try {
      c.run();
    } catch (const emulator::Fault& fault) {
      expect(false, "%s", fault.what.c_str());
    }
    printf("%s: %s\n", c.name, failures == before ? "ok" : "FAILED");
  }
  expect(ran > 0, "no case has such a name");
  return failures ? 1 : 0;
}

}  // namespace testing
