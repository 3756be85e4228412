// Where a program's teams of threads come from: OpenMP with -fopenmp, else the standard library.
#pragma once

#include "openmp.hpp"

#if defined(_OPENMP)
#include <omp.h>

// What the compiler calls for a parallel region; no header declares it.
extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags);

recurra::OpenMP recurra::openmp{GOMP_parallel, omp_get_num_threads, omp_get_thread_num};
#elif !defined(RECURRA_STANDARD_THREADS)
#error "Without -fopenmp or -DRECURRA_STANDARD_THREADS every team would have one thread."
#endif
