/* What the compiled layers compute, written so that it can be checked by reading: one float32 after the other, sums in
   float64. Tests compare the fast code with it. Nothing else calls it. */

#include <math.h>
#include <stdint.h>

/* y = norm(x), then ReLU if asked for, of each pixel. */
void chainrule_reference_norm_forward(int64_t pixels, int64_t channels, int64_t relu, double eps, const float *x,
                                      const float *gain, const float *bias, float *y) {
    for (int64_t p = 0; p < pixels; p++, x += channels, y += channels) {
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < channels; c++) mean += x[c] / (double)channels;
        for (int64_t c = 0; c < channels; c++) variance += (x[c] - mean) * (x[c] - mean) / (double)channels;
        for (int64_t c = 0; c < channels; c++) {
            const double out = (x[c] - mean) / sqrt(variance + eps) * gain[c] + bias[c];
            y[c] = (float)(relu && out < 0 ? 0 : out);
        }
    }
}

/* The gradients of x, and added to what is there those of gain and bias, from that of y. */
void chainrule_reference_norm_backward(int64_t pixels, int64_t channels, int64_t relu, double eps, const float *x,
                                       const float *gain, const float *bias, const float *y_grad, float *x_grad,
                                       double *gain_grad, double *bias_grad) {
    for (int64_t p = 0; p < pixels; p++, x += channels, y_grad += channels, x_grad += channels) {
        double mean = 0, variance = 0, mean_grad = 0, mean_along = 0;
        for (int64_t c = 0; c < channels; c++) mean += x[c] / (double)channels;
        for (int64_t c = 0; c < channels; c++) variance += (x[c] - mean) * (x[c] - mean) / (double)channels;
        const double deviation = sqrt(variance + eps);
        for (int twice = 0; twice < 2; twice++) /* the means first, then what needs them */
            for (int64_t c = 0; c < channels; c++) {
                const double hat = (x[c] - mean) / deviation;
                const double grad = relu && hat * gain[c] + bias[c] <= 0 ? 0 : y_grad[c];
                if (twice) {
                    x_grad[c] = (float)((grad * gain[c] - mean_grad - hat * mean_along) / deviation);
                    gain_grad[c] += grad * hat, bias_grad[c] += grad;
                } else {
                    mean_grad += grad * gain[c] / (double)channels;
                    mean_along += grad * gain[c] * hat / (double)channels;
                }
            }
    }
}

/* tanh(a) · σ(b) of the halves (a, b) of each pixel; with the gradient of that, the gradient of x instead. */
void chainrule_reference_gate(int64_t pixels, int64_t filters, const float *x, const float *grad, float *to) {
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t k = 0; k < filters; k++) {
            const int64_t a = 2 * p * filters + k, b = a + filters, at = p * filters + k;
            const double tanh_a = tanh(x[a]), open = 1 / (1 + exp(-x[b]));
            if (!grad) to[at] = (float)(tanh_a * open);
            if (grad) to[a] = (float)(grad[at] * open * (1 - tanh_a * tanh_a));
            if (grad) to[b] = (float)(grad[at] * tanh_a * open * (1 - open));
        }
}

/* relu(x) inside a border of zeros above, left and right; with y, that output, x is its gradient and `to` that of x. */
void chainrule_reference_relu_pad(int64_t images, int64_t height, int64_t width, int64_t channels, int64_t border,
                                  const float *x, const float *y, float *to) {
    const int64_t rows = border + height, columns = border + width + border;
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                for (int64_t c = 0; c < channels; c++) {
                    const int64_t outer = ((n * rows + i) * columns + j) * channels + c;
                    const int64_t inner = ((n * height + i - border) * width + j - border) * channels + c;
                    const int inside = i >= border && j >= border && j < border + width;
                    if (!y) to[outer] = inside && !(x[inner] < 0) ? x[inner] : 0;
                    if (y && inside) to[inner] = y[outer] > 0 ? x[outer] : 0;
                }
}

/* y = relu(bias + the table's rows + plus). */
void chainrule_reference_lookup(int64_t pixels, int64_t units, int64_t variables, const int64_t *row, const float *table,
                                const float *bias, const float *plus, float *y) {
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t k = 0; k < units; k++) {
            double sum = (double)bias[k] + plus[p * units + k];
            for (int64_t v = 0; v < variables; v++) sum += table[row[p * variables + v] * units + k];
            y[p * units + k] = (float)(sum < 0 ? 0 : sum);
        }
}

/* The gradient of plus, and added to what is there that of the table. */
void chainrule_reference_lookup_back(int64_t pixels, int64_t units, int64_t variables, const int64_t *row, const float *y,
                                     const float *grad, float *plus_grad, double *table_grad) {
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t k = 0; k < units; k++) {
            plus_grad[p * units + k] = y[p * units + k] > 0 ? grad[p * units + k] : 0;
            for (int64_t v = 0; v < variables; v++)
                table_grad[row[p * variables + v] * units + k] += plus_grad[p * units + k];
        }
}

/* The taps of a 3×3 kernel of type B, as steps up and to the right. */
static const int64_t UP[] = {1, 1, 1, 0, 0}, RIGHT[] = {-1, 0, 1, -1, 0};
enum { TAPS = 5, STORED = 6 };

/* A convolution of an image (height, width, inputs) by so many of the taps: with one, that of a single pixel. The kernel
   lies as (outputs, stored, inputs), stored being 1 or 6; ReLU if asked for. */
static void convolve(int64_t height, int64_t width, int64_t inputs, int64_t outputs, int64_t taps, int relu,
                     const float *x, const float *kernel, const float *bias, float *y) {
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            for (int64_t o = 0; o < outputs; o++) {
                double sum = bias[o];
                for (int64_t t = 0; t < taps; t++) {
                    const int64_t above = taps == 1 ? i : i - UP[t], beside = taps == 1 ? j : j + RIGHT[t];
                    if (above < 0 || beside < 0 || beside >= width) continue;
                    for (int64_t c = 0; c < inputs; c++)
                        sum += (double)x[(above * width + beside) * inputs + c] *
                               kernel[(o * (taps == 1 ? 1 : STORED) + t) * inputs + c];
                }
                y[(i * width + j) * outputs + o] = (float)(relu && sum < 0 ? 0 : sum);
            }
}

/* Its way back: from the gradient of y, that of x, set, and of kernel and bias, added to. With `y`, there was a ReLU. */
static void convolve_back(int64_t height, int64_t width, int64_t inputs, int64_t outputs, int64_t taps, const float *x,
                          const float *kernel, const float *y, const float *y_grad, float *x_grad, double *kernel_grad,
                          double *bias_grad) {
    for (int64_t k = 0; k < height * width * inputs; k++) x_grad[k] = 0;
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            for (int64_t o = 0; o < outputs; o++) {
                const int64_t at = (i * width + j) * outputs + o;
                if (y && !(y[at] > 0)) continue;
                bias_grad[o] += y_grad[at];
                for (int64_t t = 0; t < taps; t++) {
                    const int64_t above = taps == 1 ? i : i - UP[t], beside = taps == 1 ? j : j + RIGHT[t];
                    if (above < 0 || beside < 0 || beside >= width) continue;
                    for (int64_t c = 0; c < inputs; c++) {
                        const int64_t in = (above * width + beside) * inputs + c;
                        const int64_t weight = (o * (taps == 1 ? 1 : STORED) + t) * inputs + c;
                        x_grad[in] += kernel[weight] * y_grad[at];
                        kernel_grad[weight] += (double)x[in] * y_grad[at];
                    }
                }
            }
}

/* A residual block of one image (height, width, filters): y = x + W₃ relu(W₂ ⊛ relu(W₁ relu(norm(x)))). Kept for the way
   back: what comes out of the norm (filters a pixel) and of the first two convolutions (filters / 2 a pixel). */
void chainrule_reference_block(int64_t height, int64_t width, int64_t filters, double eps, const float *x,
                               const float *const parameters[8], float *normed, float *reduced, float *seen, float *y) {
    const int64_t half = filters / 2, pixels = height * width;
    chainrule_reference_norm_forward(pixels, filters, 1, eps, x, parameters[0], parameters[1], normed);
    convolve(height, width, filters, half, 1, 1, normed, parameters[2], parameters[5], reduced);
    convolve(height, width, half, half, TAPS, 1, reduced, parameters[3], parameters[6], seen);
    convolve(height, width, half, filters, 1, 0, seen, parameters[4], parameters[7], y);
    for (int64_t k = 0; k < pixels * filters; k++) y[k] += x[k];
}

/* Its way back: the gradient of x, set, and of the eight parameters, added to what is there. */
void chainrule_reference_block_back(int64_t height, int64_t width, int64_t filters, double eps, const float *x,
                                    const float *const parameters[8], const float *normed, const float *reduced,
                                    const float *seen, const float *y_grad, float *normed_grad, float *reduced_grad,
                                    float *seen_grad, float *x_grad, double *const grads[8]) {
    const int64_t half = filters / 2, pixels = height * width;
    convolve_back(height, width, half, filters, 1, seen, parameters[4], 0, y_grad, seen_grad, grads[4], grads[7]);
    convolve_back(height, width, half, half, TAPS, reduced, parameters[3], seen, seen_grad, reduced_grad, grads[3], grads[6]);
    convolve_back(height, width, filters, half, 1, normed, parameters[2], reduced, reduced_grad, normed_grad, grads[2], grads[5]);
    chainrule_reference_norm_backward(pixels, filters, 1, eps, x, parameters[0], parameters[1], normed_grad, x_grad,
                                      grads[0], grads[1]);
    for (int64_t k = 0; k < pixels * filters; k++) x_grad[k] += y_grad[k];
}
