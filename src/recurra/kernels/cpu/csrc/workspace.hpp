// Memory for one call, of which the thread keeps some for the next.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "layer.hpp"
#include "list.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(RECURRA_FENCED)
#include <sanitizer/asan_interface.h>
#endif

namespace recurra::RECURRA_ISA {

// Large memory that is about to be written for the first time comes in large pages, of which there are far fewer to make.
inline void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  constexpr std::size_t kPage = 4096, kLarge = std::size_t(2) << 20;
  if (bytes < kLarge) return;
  const std::size_t begin = (reinterpret_cast<std::size_t>(memory) + kPage - 1) / kPage * kPage;
  const std::size_t end = (reinterpret_cast<std::size_t>(memory) + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// Sizes are counted first, then the memory is taken at once and handed out in the same order.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  // What is more than a thread may keep goes back with the end of the call.
  ~Workspace() {
    if (shared_ && kept_by_thread().size > most_kept_) kept_by_thread().release();
  }

  template <class T> std::size_t count(std::size_t elements) {
    const std::size_t at = size_;
    // Far below where the sums of sizes would start again from zero.
    constexpr std::size_t most = static_cast<std::size_t>(-1) / 4;
    if (elements > most / sizeof(T) || at > most) throw std::bad_alloc();
    size_ += (elements * sizeof(T) + 127) / 64 * 64;
#if defined(RECURRA_FENCED)
    gaps_.push_back({at + elements * sizeof(T), size_});
#endif
    return at;
  }

  // With memory of its own it is not shared with the thread's other calls.
  void take(bool own = false) {
    if (!own) {
      most_kept_ = most_kept_bytes();
      shared_ = true;
    }
    Kept& kept = own ? own_ : kept_by_thread();
    if (kept.size < size_) {
      kept.release();
      constexpr std::size_t page = std::size_t(2) << 20;
      const std::size_t whole = (size_ + page - 1) / page * page;
      kept.memory = static_cast<char*>(std::aligned_alloc(page, whole));
      if (kept.memory == nullptr) throw std::bad_alloc();
      prefer_large_pages(kept.memory, whole);
      kept.size = whole;
    }
    memory_ = kept.memory;
#if defined(RECURRA_FENCED)
    // To the address sanitizer all parts are one piece of memory, which it is told to guard between them; and what is
    // read before it is written shall be NaN, not what an earlier call may have left.
    ASAN_UNPOISON_MEMORY_REGION(memory_, kept.size);
    std::memset(memory_, 0xff, size_);
    for (const Gap& gap : gaps_) ASAN_POISON_MEMORY_REGION(memory_ + gap.begin, gap.end - gap.begin);
    ASAN_POISON_MEMORY_REGION(memory_ + size_, kept.size - size_);
#endif
  }

  template <class T> T* at(std::size_t offset) const { return reinterpret_cast<T*>(memory_ + offset); }

 private:
  struct Kept {
    char* memory = nullptr;
    std::size_t size = 0;
    Kept() = default;
    Kept(const Kept&) = delete;
    ~Kept() { release(); }
    void release() {
      std::free(memory);
      memory = nullptr;
      size = 0;
    }
  };
  static Kept& kept_by_thread() {
    static thread_local Kept kept;
    return kept;
  }

  std::size_t size_ = 0, most_kept_ = 0;
  bool shared_ = false;
#if defined(RECURRA_FENCED)
  struct Gap {
    std::size_t begin, end;
  };
  List<Gap> gaps_;
#endif
  char* memory_ = nullptr;
  Kept own_;
};

}  // namespace recurra::RECURRA_ISA
