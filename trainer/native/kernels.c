/* All kernels, one unit of compilation. Each takes a pointer to its arguments alone, 8 bytes each, and returns
 * DONE or NO_MEMORY: then what it wrote is of no use. Sums over rows are added to what is there.
 */
#include "attention.c"
#include "recurrent.c"
#include "residual.c"
#include "selection.c"
#include "network.c"

int rows_of_a_block(void) { return R; }
