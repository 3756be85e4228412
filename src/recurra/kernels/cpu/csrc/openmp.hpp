// The functions of OpenMP that the engine uses, taken from the library that torch uses.
#pragma once

namespace recurra {

// Linked to an OpenMP library itself, the engine could get another than torch's, and with it a second pool of threads on
// the same cores; or none, where the machine has none but torch's.
struct OpenMP {
  // GOMP_parallel: calls work(data) on each thread of a team, and returns when all have ended. Flags are 0.
  void (*parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags);
  // omp_get_num_threads and omp_get_thread_num: the team's size and the calling thread's number in it.
  int (*team_size)();
  int (*thread)();
};

// Null until they are given: every layer then runs on one thread.
extern OpenMP openmp;

}  // namespace recurra
