// The online loop of memory blocks as a Python module; nanobind looks at types, devices and strides of the arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>

#include "blocks.hpp"

namespace nb = nanobind;

namespace recurra::classics {
namespace {

template <class T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Maybe = std::optional<Array<const T, N>>;

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

const std::int32_t* checked_symbols(const Maybe<std::int32_t, 1>& symbols, std::int64_t steps, int most) {
  if (!symbols) return nullptr;
  require(std::int64_t(symbols->shape(0)) == steps, "there must be a symbol for each step");
  for (std::int64_t t = 0; t < steps; ++t)
    require(symbols->data()[t] >= 0 && symbols->data()[t] < most, "a symbol has no unit in this network");
  return symbols->data();
}

const double* checked_rows(const Maybe<double, 2>& rows, std::int64_t count, int width) {
  if (!rows) return nullptr;
  require(std::int64_t(rows->shape(0)) == count && std::int64_t(rows->shape(1)) == width,
          "inputs need a row for each step, and targets for each sequence, with a number for each unit");
  return rows->data();
}

void require_shape(const Array<double, 2>& weights, int rows, int columns) {
  require(std::int64_t(weights.shape(0)) == rows && std::int64_t(weights.shape(1)) == columns,
          "the weights have not the shapes of this network");
}

void run(int inputs, int blocks, int cells, int outputs, bool output_gates, bool recurrent, bool direct, bool gate_bias,
         bool cell_bias, bool output_bias, bool plain, Array<double, 2> hidden, Array<double, 2> output,
         Maybe<std::int32_t, 1> symbols, Maybe<double, 2> values, Array<const std::int64_t, 1> starts,
         Maybe<double, 2> ends, Maybe<std::int32_t, 1> next, double rate, Array<double, 2> answers) {
  for (int size : {inputs, outputs, cells}) require(size >= 1 && size <= 1 << 20, "sizes must be from 1 to 2^20");
  require(blocks >= 0 && blocks <= 1 << 10 && cells <= 1 << 10, "there can be 1,024 blocks, and cells in each, at most");
  const Shape shape{inputs,   blocks,    cells,     outputs,     output_gates, recurrent,
                    direct,   gate_bias, cell_bias, output_bias, plain};
  require_shape(hidden, shape.hidden(), shape.hidden_width());
  require_shape(output, outputs, shape.output_width());
  const std::int64_t count = std::int64_t(starts.shape(0)) - 1;
  require(count >= 0 && starts.data()[0] == 0, "starts must begin with 0");
  for (std::int64_t n = 0; n < count; ++n)
    require(starts.data()[n] < starts.data()[n + 1], "every sequence must have a step");
  const std::int64_t steps = starts.data()[count];
  require(symbols.has_value() != values.has_value(), "inputs are either symbols or values");
  require(ends.has_value() != next.has_value(), "targets are either at the ends or at every step");
  const Sequences data{checked_symbols(symbols, steps, inputs), checked_rows(values, steps, inputs), starts.data(), count};
  const Targets targets{checked_rows(ends, count, outputs), checked_symbols(next, steps, outputs)};
  require(std::int64_t(answers.shape(0)) == (next ? steps : count) && std::int64_t(answers.shape(1)) == outputs,
          "answers need a row for each target");
  Learner learner(shape, hidden.data(), output.data());
  nb::gil_scoped_release release;
  learner.run(data, targets, rate, answers.data());
}

}  // namespace

NB_MODULE(_blocks, module) {
  // What is written to must not be a converted copy.
  module.def("run", &run, nb::arg("inputs"), nb::arg("blocks"), nb::arg("cells"), nb::arg("outputs"),
             nb::arg("output_gates"), nb::arg("recurrent"), nb::arg("direct"), nb::arg("gate_bias"),
             nb::arg("cell_bias"), nb::arg("output_bias"), nb::arg("plain"), nb::arg("hidden").noconvert(), nb::arg("output").noconvert(),
             nb::arg("symbols").none(), nb::arg("values").none(), nb::arg("starts"), nb::arg("ends").none(),
             nb::arg("next").none(), nb::arg("rate"), nb::arg("answers").noconvert());
}

}  // namespace recurra::classics
