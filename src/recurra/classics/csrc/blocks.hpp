// Memory blocks trained online, as Hochreiter & Schmidhuber (1997) trained them: sequence after sequence, one at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace recurra::classics {

struct Shape {
  int inputs, blocks, cells, outputs;
  // Whether blocks have output gates, hidden units see one another, and outputs see the inputs.
  bool output_gates, recurrent, direct;
  // Which units have a bias that is learnt.
  bool gate_bias, cell_bias, output_bias;
  // g is 4 sigmoid(x) - 2 and h is 2 sigmoid(x) - 1; plain: g is sigmoid(x) and h is x.
  bool plain;

  int per_block() const { return 1 + (output_gates ? 1 : 0) + cells; }
  int hidden() const { return blocks * per_block(); }
  int hidden_width() const { return inputs + (recurrent ? hidden() : 0) + 1; }
  int output_width() const { return (direct ? inputs : 0) + blocks * cells + 1; }
};

// Sequences one after the other. A step's input is either a symbol, which is the one input that is 1, or all inputs.
struct Sequences {
  const std::int32_t* symbols;  // (steps), or null
  const double* values;         // (steps, inputs), or null
  const std::int64_t* starts;   // (count + 1)
  std::int64_t count;
};

// What is wanted: at the end of each sequence a row of numbers, or at every step the output of a symbol.
struct Targets {
  const double* ends;           // (count, outputs), or null
  const std::int32_t* symbols;  // (steps), or null
};

class Learner {
 public:
  Learner(const Shape& shape, double* hidden_weights, double* output_weights)
      : n_(shape),
        hidden_(hidden_weights),
        output_(output_weights),
        units_(shape.hidden()),
        width_(shape.hidden_width()),
        output_width_(shape.output_width()),
        cells_(shape.blocks * shape.cells),
        net_(units_),
        y_(units_),
        before_(units_),
        state_(cells_),
        g_(cells_),
        h_(cells_),
        slope_(cells_),
        gate_trace_(std::size_t(cells_) * width_),
        cell_trace_(std::size_t(cells_) * width_),
        answer_(shape.outputs),
        error_(shape.outputs),
        back_(cells_),
        hidden_change_(std::size_t(units_) * width_),
        output_change_(std::size_t(shape.outputs) * output_width_) {}

  // Goes through the sequences; with a rate, weights change after each one. Outputs: a row for each target.
  void run(const Sequences& data, const Targets& targets, double rate, double* outputs) {
    const bool learns = rate != 0.0;
    for (std::int64_t n = 0; n < data.count; ++n) {
      begin(learns);
      for (std::int64_t t = data.starts[n]; t < data.starts[n + 1]; ++t) {
        const Input x = input(data, t);
        step(x, learns);
        const bool last = t + 1 == data.starts[n + 1];
        if (targets.symbols == nullptr && !last) continue;
        answer(x);
        const std::int64_t row = targets.symbols != nullptr ? t : n;
        std::memcpy(outputs + row * n_.outputs, answer_.data(), sizeof(double) * n_.outputs);
        if (!learns) continue;
        for (int k = 0; k < n_.outputs; ++k) {
          const double wanted =
              targets.symbols != nullptr ? (targets.symbols[t] == k ? 1.0 : 0.0) : targets.ends[n * n_.outputs + k];
          error_[k] = (wanted - answer_[k]) * answer_[k] * (1 - answer_[k]);
        }
        learn(x);
      }
      if (learns) change(rate);
    }
  }

 private:
  struct Input {
    std::int32_t symbol;
    const double* values;
  };

  Input input(const Sequences& data, std::int64_t t) const {
    if (data.symbols != nullptr) return {data.symbols[t], nullptr};
    return {-1, data.values + t * n_.inputs};
  }

  static double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

  int gate(int block) const { return block * n_.per_block(); }
  int output_gate(int block) const { return gate(block) + 1; }
  int cell(int block, int c) const { return gate(block) + (n_.output_gates ? 2 : 1) + c; }

  static double weighted(const double* row, const Input& x, int inputs) {
    if (x.values == nullptr) return row[x.symbol];
    double sum = 0;
    for (int i = 0; i < inputs; ++i) sum += row[i] * x.values[i];
    return sum;
  }

  // row += factor * (inputs, what hidden units gave a step before, 1)
  void add_seen(double* row, double factor, const Input& x) const {
    if (x.values == nullptr) {
      row[x.symbol] += factor;
    } else {
      for (int i = 0; i < n_.inputs; ++i) row[i] += factor * x.values[i];
    }
    double* rest = row + n_.inputs;
    if (n_.recurrent)
      for (int u = 0; u < units_; ++u) rest[u] += factor * before_[u];
    row[width_ - 1] += factor;
  }

  void begin(bool learns) {
    std::fill(y_.begin(), y_.end(), 0.0);
    std::fill(state_.begin(), state_.end(), 0.0);
    if (!learns) return;
    std::fill(gate_trace_.begin(), gate_trace_.end(), 0.0);
    std::fill(cell_trace_.begin(), cell_trace_.end(), 0.0);
    std::fill(hidden_change_.begin(), hidden_change_.end(), 0.0);
    std::fill(output_change_.begin(), output_change_.end(), 0.0);
  }

  void step(const Input& x, bool learns) {
    before_.swap(y_);
    for (int u = 0; u < units_; ++u) {
      const double* row = hidden_ + std::size_t(u) * width_;
      double sum = row[width_ - 1] + weighted(row, x, n_.inputs);
      if (n_.recurrent)
        for (int v = 0; v < units_; ++v) sum += row[n_.inputs + v] * before_[v];
      net_[u] = sum;
    }
    for (int j = 0; j < n_.blocks; ++j) {
      const double in = sigmoid(net_[gate(j)]);
      y_[gate(j)] = in;
      const double out = n_.output_gates ? sigmoid(net_[output_gate(j)]) : 1.0;
      if (n_.output_gates) y_[output_gate(j)] = out;
      for (int c = 0; c < n_.cells; ++c) {
        const int k = j * n_.cells + c;
        const double s = sigmoid(net_[cell(j, c)]);
        g_[k] = n_.plain ? s : 4 * s - 2;
        const double g_slope = (n_.plain ? 1 : 4) * s * (1 - s);
        state_[k] += in * g_[k];
        if (n_.plain) {
          h_[k] = state_[k];
          slope_[k] = 1;
        } else {
          const double e = sigmoid(state_[k]);
          h_[k] = 2 * e - 1;
          slope_[k] = 2 * e * (1 - e);
        }
        y_[cell(j, c)] = out * h_[k];
        if (!learns) continue;
        // How the state depends on the weights of the input gate and of the cell (appendix A.1 of the paper): the outputs
        // of all units a step before count as constants, so only the state itself carries error back.
        add_seen(&gate_trace_[std::size_t(k) * width_], g_[k] * in * (1 - in), x);
        add_seen(&cell_trace_[std::size_t(k) * width_], g_slope * in, x);
      }
    }
  }

  void answer(const Input& x) {
    for (int k = 0; k < n_.outputs; ++k) {
      const double* row = output_ + std::size_t(k) * output_width_;
      double sum = row[output_width_ - 1];
      if (n_.direct) sum += weighted(row, x, n_.inputs);
      const double* rest = row + (n_.direct ? n_.inputs : 0);
      for (int j = 0; j < n_.blocks; ++j)
        for (int c = 0; c < n_.cells; ++c) sum += rest[j * n_.cells + c] * y_[cell(j, c)];
      answer_[k] = sigmoid(sum);
    }
  }

  void learn(const Input& x) {
    const int direct = n_.direct ? n_.inputs : 0;
    std::fill(back_.begin(), back_.end(), 0.0);
    for (int k = 0; k < n_.outputs; ++k) {
      const double e = error_[k];
      const double* row = output_ + std::size_t(k) * output_width_;
      double* change = &output_change_[std::size_t(k) * output_width_];
      if (n_.direct) {
        if (x.values == nullptr) {
          change[x.symbol] += e;
        } else {
          for (int i = 0; i < n_.inputs; ++i) change[i] += e * x.values[i];
        }
      }
      for (int j = 0; j < n_.blocks; ++j)
        for (int c = 0; c < n_.cells; ++c) {
          const int at = j * n_.cells + c;
          back_[at] += row[direct + at] * e;
          change[direct + at] += e * y_[cell(j, c)];
        }
      change[output_width_ - 1] += e;
    }
    for (int j = 0; j < n_.blocks; ++j) {
      const double out = n_.output_gates ? y_[output_gate(j)] : 1.0;
      if (n_.output_gates) {
        double sum = 0;
        for (int c = 0; c < n_.cells; ++c) sum += h_[j * n_.cells + c] * back_[j * n_.cells + c];
        add_seen(&hidden_change_[std::size_t(output_gate(j)) * width_], out * (1 - out) * sum, x);
      }
      for (int c = 0; c < n_.cells; ++c) {
        const int k = j * n_.cells + c;
        const double e = out * slope_[k] * back_[k];
        double* of_gate = &hidden_change_[std::size_t(gate(j)) * width_];
        double* of_cell = &hidden_change_[std::size_t(cell(j, c)) * width_];
        const double* gate_trace = &gate_trace_[std::size_t(k) * width_];
        const double* cell_trace = &cell_trace_[std::size_t(k) * width_];
        for (int i = 0; i < width_; ++i) {
          of_gate[i] += e * gate_trace[i];
          of_cell[i] += e * cell_trace[i];
        }
      }
    }
  }

  void change(double rate) {
    for (int u = 0; u < units_; ++u) {
      const bool is_cell = u % n_.per_block() >= (n_.output_gates ? 2 : 1);
      const int learnt = width_ - ((is_cell ? n_.cell_bias : n_.gate_bias) ? 0 : 1);
      for (int i = 0; i < learnt; ++i)
        hidden_[std::size_t(u) * width_ + i] += rate * hidden_change_[std::size_t(u) * width_ + i];
    }
    const int learnt = output_width_ - (n_.output_bias ? 0 : 1);
    for (int k = 0; k < n_.outputs; ++k)
      for (int i = 0; i < learnt; ++i)
        output_[std::size_t(k) * output_width_ + i] += rate * output_change_[std::size_t(k) * output_width_ + i];
  }

  const Shape n_;
  double* hidden_;
  double* output_;
  const int units_, width_, output_width_, cells_;
  std::vector<double> net_, y_, before_;
  std::vector<double> state_, g_, h_, slope_;
  // How each cell's state depends on the weights of its block's input gate and on its own: (cells, width).
  std::vector<double> gate_trace_, cell_trace_;
  std::vector<double> answer_, error_, back_;
  std::vector<double> hidden_change_, output_change_;
};

}  // namespace recurra::classics
