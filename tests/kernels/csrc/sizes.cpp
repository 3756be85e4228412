// The arithmetic of sizes at numbers that no tensor of a test has.
#include <cstdio>
#include <cstdint>
#include <initializer_list>
#include <new>

#include "common.hpp"

std::size_t recurra::most_kept_bytes() { return 0; }

namespace {

using namespace recurra;
using namespace recurra::RECURRA_ISA;

int failures = 0;

void expect(bool right, const char* what, std::ptrdiff_t a = 0, std::ptrdiff_t b = 0, std::ptrdiff_t c = 0) {
  if (right) return;
  ++failures;
  std::fprintf(stderr, "%s is wrong for %td, %td, %td\n", what, a, b, c);
}

bool refused(std::size_t elements) {
  try {
    Workspace workspace;
    workspace.count<double>(elements);
    workspace.count<double>(elements);
    return false;
  } catch (const std::bad_alloc&) {
    return true;
  }
}

}  // namespace

int main() {
  constexpr std::ptrdiff_t kMost = kMostCounted;
  for (const std::ptrdiff_t count : {std::ptrdiff_t(0), std::ptrdiff_t(7), std::ptrdiff_t(113510), std::ptrdiff_t(65536) * 65536, kMost, kMost * 64})
    for (const std::ptrdiff_t parts : {std::ptrdiff_t(1), std::ptrdiff_t(6), std::ptrdiff_t(18919), kMost / 6 + 1}) {
      // More than an int is parted among threads only.
      if (count > kMost && parts > 18919) continue;
      for (const std::ptrdiff_t nth : {std::ptrdiff_t(0), parts / 2, parts - 1}) {
        const Part<std::ptrdiff_t> part = share_of(count, nth, parts);
        expect(part.begin == static_cast<std::ptrdiff_t>(static_cast<__int128>(count) * nth / parts), "a part's begin", count, nth, parts);
        expect(part.end == static_cast<std::ptrdiff_t>(static_cast<__int128>(count) * (nth + 1) / parts), "a part's end", count, nth, parts);
        expect(nth + 1 < parts || part.end == count, "the end of the last part", count, nth, parts);
        if (count > kMost) continue;
        const Share rows = share_of(static_cast<int>(count), nth, parts);
        expect(rows.begin == part.begin && rows.end == part.end, "a part in int", count, nth, parts);
      }
    }
  for (const int width : {2, 4, 8, 16}) {
    const int blocks = blocks_of(kMost, width);
    expect(std::ptrdiff_t(blocks) * width >= kMost && std::ptrdiff_t(blocks) * width - kMost < width, "blocks_of", kMost, width);
    expect(lanes(kMost, blocks - 1, width) == width - (std::ptrdiff_t(blocks) * width - kMost), "lanes", kMost, width);
  }
  expect(padded_units(kMost) >= kMost && padded_units(kMost) < kMost + 32, "padded_units", kMost);
  expect(depth(Width::kWhole, kMost) == kMost && depth(Width::kNarrow, kMost) == (kMost + 1) / 2, "depth", kMost);
  const std::ptrdiff_t deep = (kMost + 31) / 32;
  expect(Halves::deep_for(kMost) == deep && depth(Width::kTiled, kMost) == deep * 16, "deep_for", kMost);
  expect(Halves::size(1 << 20, kMost) == (std::size_t(1) << 20) * deep * 32, "Halves::size", 1 << 20, kMost);
  const Halves halves{nullptr, deep};
  const auto at = [](const std::uint16_t* p) { return static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(p) / sizeof(*p)); };
  expect(at(halves.tile(1 << 20)) == (std::ptrdiff_t(1) << 20) * deep * 32, "Halves::tile", 1 << 20);
  expect(at(halves.at(1 << 20, kMost - 1)) == at(halves.tile(1 << 20)) + (kMost - 1) / 32 * 512 + (kMost - 1) % 32, "Halves::at", 1 << 20);

  Layer layer{};
  layer.steps = std::ptrdiff_t(1) << 31;
  layer.batch = kMost;
  layer.hidden = 3;
  const Clock clock(layer);
  expect(clock.total() == (std::ptrdiff_t(1) << 31) * kMost, "the rows of all steps");
  const Sequence sequence{nullptr, 5 * kMost, 5, false};
  expect(reinterpret_cast<std::uintptr_t>(clock.at<char>(sequence, 1 << 20, 1 << 30)) == std::size_t(5) * ((std::size_t(1) << 20) * kMost + (1 << 30)),
         "a row of a step");
  expect(reinterpret_cast<std::uintptr_t>(clock.at<float>(nullptr, 0, 1 << 30)) == std::size_t(12) << 30, "a row of a state");

  Workspace workspace;
  workspace.count<float>(std::size_t(1) << 33);
  expect(workspace.count<float>(1) >= std::size_t(4) << 33, "Workspace::count");
  for (const std::size_t elements : {static_cast<std::size_t>(-1), static_cast<std::size_t>(-1) / 8, std::size_t(1) << 60, static_cast<std::size_t>(-1) / 16})
    expect(refused(elements), "what Workspace::count refuses", static_cast<std::ptrdiff_t>(elements));
  return failures != 0;
}
