// Threads that each write a place of their own, meet, and read all places: what every step of a layer does. Run under the
// thread sanitizer it fails if the barrier orders too little.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "team.hpp"

int main(int count, char** arguments) {
  const int rounds = 100;
  for (int argument = 1; argument < count; ++argument) {
    const int threads = std::atoi(arguments[argument]);
    recurra::RECURRA_ISA::Barrier barrier(threads);
    // Not atomic, so that only the barrier can order what is read here after what was written.
    std::vector<long> places(threads), totals(threads);
    const auto work = [&](int thread) {
      for (int round = 0; round < rounds; ++round) {
        places[thread] += thread + 1;
        barrier.wait();
        for (const long place : places) totals[thread] += place;
        barrier.wait();
      }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    work(0);
    for (std::thread& other : others) other.join();
    const long expected = long(threads) * (threads + 1) / 2 * rounds * (rounds + 1) / 2;
    for (const long total : totals)
      if (total != expected) {
        std::fprintf(stderr, "with %d threads one read %ld and not %ld\n", threads, total, expected);
        return 1;
      }
  }
}
